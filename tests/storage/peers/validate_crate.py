"""Run in the validator's own environment: CRATE CONTEXT.jsonld; a line an issue, then True or False.

The validator fetches the JSON-LD context from the web: it is served the copy that it is given, and nothing else.
"""

import sys
import urllib.request
from email.message import Message
from io import BytesIO
from pathlib import Path
from urllib.response import addinfourl

import requests
import requests_cache
from rocrate_validator import models, services

crate, context = sys.argv[1], Path(sys.argv[2]).read_bytes()


def served(opener, asked, *arguments, **options):
    address = asked if isinstance(asked, str) else asked.full_url
    if not address.startswith("https://w3id.org/ro/crate/"):
        raise AssertionError(f"it wants {address}")
    headers = Message()
    headers["Content-Type"] = "application/ld+json"
    return addinfourl(BytesIO(context), headers, address, 200)


urllib.request.OpenerDirector.open = served


def answered(session, method, url, *arguments, **options):
    if not url.startswith("https://w3id.org/ro/crate/"):
        raise AssertionError(f"it wants {url}")
    answer = requests.Response()
    answer.status_code, answer._content, answer.url = 200, context, url
    answer.headers["Content-Type"] = "application/ld+json"
    return answer


requests.Session.request = requests_cache.CachedSession.request = answered

settings = services.ValidationSettings(
    rocrate_uri=crate, profile_identifier="process-run-crate-0.5", requirement_severity=models.Severity.REQUIRED
)
result = services.validate(settings)
for issue in result.get_issues():
    print(issue.check.identifier, issue.message)
print(result.passed())
