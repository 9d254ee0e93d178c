"""DECTRIS detectors: control over SIMPLON REST, frames over stream v2."""
