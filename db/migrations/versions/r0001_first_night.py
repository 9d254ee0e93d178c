"""The first schema: specimens, plans, nights, runs, dose, calibrations, data, quality, events."""

import sqlalchemy as sa
from alembic import op

from db.migrations.guards import refuse

revision = "0001_nightbeam_0.1.0"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)
JSON = sa.JSON()

APPEND_ONLY = (
    "plan",
    "software_environment",
    "dose_entry",
    "run_calibration",
    "device_snapshot",
    "reading",
    "dataset",
    "dataset_location",
    "dataset_parent",
    "quality_result",
    "remedy",
    "analysis_result",
    "event",
)
NEVER_DELETED = ("sample", "area", "night", "target", "run", "exposure_intent", "calibration")


def upgrade() -> None:
    """Create everything."""
    create_work()
    create_instrument()
    create_results()
    for table in APPEND_ONLY:
        refuse(table, "UPDATE")
        refuse(table, "DELETE")
    for table in NEVER_DELETED:
        refuse(table, "DELETE")


def create_work() -> None:
    """The tables of what was to be done and what was."""
    op.create_table(
        "sample",
        sa.Column("id", ID, primary_key=True),
        sa.Column("name", sa.Text(), nullable=False, unique=True),
        sa.Column("registered", TIME, nullable=False),
    )
    op.create_table(
        "area",
        sa.Column("id", ID, primary_key=True),
        sa.Column("sample_id", ID, sa.ForeignKey("sample.id"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("fluence_budget_e_per_a2", sa.Double(), nullable=False),
        sa.Column("registered", TIME, nullable=False),
        sa.UniqueConstraint("sample_id", "name"),
        sa.CheckConstraint("fluence_budget_e_per_a2 > 0", name="budget"),
    )
    op.create_table(
        "plan",
        sa.Column("id", ID, primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("canonical_json", sa.Text(), nullable=False),
        sa.Column("registered", TIME, nullable=False),
        sa.CheckConstraint("length(sha256) = 64", name="sha256"),
    )
    op.create_table(
        "software_environment",
        sa.Column("id", ID, primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("python", sa.Text(), nullable=False),
        sa.Column("packages", JSON, nullable=False),
        sa.Column("code_revision", sa.Text(), nullable=False),
        sa.CheckConstraint("length(sha256) = 64", name="sha256"),
    )
    op.create_table(
        "night",
        sa.Column("id", ID, primary_key=True),
        sa.Column("name", sa.Text(), nullable=False, unique=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("canonical_json", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("exit_reason", sa.Text()),
        sa.Column("started", TIME, nullable=False),
        sa.Column("ended", TIME),
        sa.CheckConstraint("length(sha256) = 64", name="sha256"),
        sa.CheckConstraint("state IN ('running', 'done', 'stopped', 'failed', 'crashed')", name="state"),
        sa.CheckConstraint("(state = 'running') = (ended IS NULL)", name="ended"),
    )
    op.create_index(None, "night", ["sha256"])
    op.create_table(
        "target",
        sa.Column("id", ID, primary_key=True),
        sa.Column("night_id", ID, sa.ForeignKey("night.id"), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("plan_id", ID, sa.ForeignKey("plan.id")),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("expected_state", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.UniqueConstraint("night_id", "position"),
        sa.CheckConstraint("position >= 0", name="position"),
        sa.CheckConstraint(
            "state IN ('pending', 'running', 'done', 'mended', 'marked', 'refused', 'skipped', 'failed')", name="state"
        ),
        sa.CheckConstraint(
            "expected_state IN ('pending', 'running', 'done', 'mended', 'marked', 'refused', 'skipped', 'failed')",
            name="expected_state",
        ),
    )
    op.create_index(None, "target", ["state"])
    op.create_table(
        "run",
        sa.Column("id", ID, primary_key=True),
        sa.Column("name", sa.Text(), nullable=False, unique=True),
        sa.Column("plan_id", ID, sa.ForeignKey("plan.id"), nullable=False),
        sa.Column("target_id", ID, sa.ForeignKey("target.id")),
        sa.Column("area_id", ID, sa.ForeignKey("area.id"), nullable=False),
        sa.Column("environment_id", ID, sa.ForeignKey("software_environment.id")),
        sa.Column("instrument", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("parent_id", ID, sa.ForeignKey("run.id")),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("exit_reason", sa.Text()),
        sa.Column("verdict", sa.Text()),
        sa.Column("started", TIME, nullable=False),
        sa.Column("ended", TIME),
        sa.Column("predicted_seconds", sa.Double()),
        sa.Column("predicted_bytes", sa.BigInteger()),
        sa.Column("predicted_fluence_e_per_a2", sa.Double()),
        sa.Column("actual_seconds", sa.Double()),
        sa.Column("actual_bytes", sa.BigInteger()),
        sa.Column("actual_fluence_e_per_a2", sa.Double()),
        sa.Column("flow_run_id", sa.Text()),
        sa.CheckConstraint("attempt >= 1", name="attempt"),
        sa.CheckConstraint(
            "state IN ('running', 'done', 'mended', 'marked', 'refused', 'stopped', 'failed', 'crashed')", name="state"
        ),
        sa.CheckConstraint("verdict IN ('pass', 'warn', 'fail', 'not_measurable')", name="verdict"),
        sa.CheckConstraint("(state = 'running') = (ended IS NULL)", name="ended"),
    )
    op.create_index(None, "run", ["area_id", "id"])
    op.create_index(None, "run", ["environment_id"])
    op.create_index(None, "run", ["parent_id"])
    op.create_index(None, "run", ["plan_id"])
    op.create_index(None, "run", ["started", "id"])
    op.create_index(None, "run", ["state", "id"])
    op.create_index(None, "run", ["target_id"])
    op.create_index(None, "run", ["verdict", "id"])
    op.create_table(
        "event",
        sa.Column("sequence", ID, primary_key=True),
        sa.Column("time", TIME, nullable=False),
        sa.Column("night_id", ID, sa.ForeignKey("night.id")),
        sa.Column("target_id", ID, sa.ForeignKey("target.id")),
        sa.Column("run_id", ID, sa.ForeignKey("run.id")),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", JSON),
    )
    op.create_index(None, "event", ["kind", "time"])
    op.create_index(None, "event", ["night_id"])
    op.create_index(None, "event", ["run_id"])
    op.create_index(None, "event", ["target_id"])


def create_instrument() -> None:
    """The tables of the instrument's part."""
    op.create_table(
        "exposure_intent",
        sa.Column("id", ID, primary_key=True),
        sa.Column("run_id", ID, sa.ForeignKey("run.id"), nullable=False),
        sa.Column("area_id", ID, sa.ForeignKey("area.id"), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False, unique=True),
        sa.Column("fluence_e_per_a2", sa.Double(), nullable=False),
        sa.Column("opened", TIME, nullable=False),
        sa.Column("closed", TIME),
        sa.CheckConstraint("purpose IN ('acquisition', 'calibration', 'survey', 'focus')", name="purpose"),
        sa.CheckConstraint("fluence_e_per_a2 >= 0", name="fluence"),
    )
    op.create_index(None, "exposure_intent", ["area_id", "closed"])
    op.create_index(None, "exposure_intent", ["run_id"])
    op.create_table(
        "dose_entry",
        sa.Column("id", ID, primary_key=True),
        sa.Column("intent_id", ID, sa.ForeignKey("exposure_intent.id"), nullable=False, unique=True),
        sa.Column("area_id", ID, sa.ForeignKey("area.id"), nullable=False),
        sa.Column("intended_e_per_a2", sa.Double(), nullable=False),
        sa.Column("delivered_e_per_a2", sa.Double(), nullable=False),
        sa.Column("electrons", sa.Double()),
        sa.Column("reason", sa.Text()),
        sa.Column("recorded", TIME, nullable=False),
        sa.CheckConstraint("intended_e_per_a2 >= 0", name="intended"),
        sa.CheckConstraint("delivered_e_per_a2 >= 0", name="delivered"),
        sa.CheckConstraint("electrons >= 0", name="electrons"),
        sa.CheckConstraint("delivered_e_per_a2 >= intended_e_per_a2 OR reason IS NOT NULL", name="reason"),
    )
    op.create_index(None, "dose_entry", ["area_id"])
    op.create_table(
        "calibration",
        sa.Column("id", ID, primary_key=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("mode_key", sa.Text(), nullable=False),
        sa.Column("instrument", sa.Text(), nullable=False),
        sa.Column("value", JSON, nullable=False),
        sa.Column("uncertainty", JSON),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("measured_at", TIME, nullable=False),
        sa.Column("valid_until", TIME),
        sa.Column("superseded_by", ID, sa.ForeignKey("calibration.id")),
        sa.Column("evidence_run_id", ID, sa.ForeignKey("run.id")),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.CheckConstraint("verdict IN ('pass', 'warn', 'fail', 'not_measurable')", name="verdict"),
        sa.CheckConstraint("valid_until > measured_at", name="validity"),
    )
    op.create_index(None, "calibration", ["evidence_run_id"])
    op.create_index(None, "calibration", ["instrument", "kind", "mode_key", "measured_at"])
    op.create_index(None, "calibration", ["superseded_by"])
    op.create_table(
        "run_calibration",
        sa.Column("id", ID, primary_key=True),
        sa.Column("run_id", ID, sa.ForeignKey("run.id"), nullable=False),
        sa.Column("calibration_id", ID, sa.ForeignKey("calibration.id"), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.UniqueConstraint("run_id", "role", "calibration_id"),
    )
    op.create_index(None, "run_calibration", ["calibration_id"])
    op.create_table(
        "device_snapshot",
        sa.Column("id", ID, primary_key=True),
        sa.Column("run_id", ID, sa.ForeignKey("run.id"), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("taken_at", TIME, nullable=False),
        sa.UniqueConstraint("run_id", "phase"),
        sa.CheckConstraint("phase IN ('before', 'after')", name="phase"),
    )
    op.create_table(
        "reading",
        sa.Column("id", ID, primary_key=True),
        sa.Column("snapshot_id", ID, sa.ForeignKey("device_snapshot.id"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("number", sa.Double()),
        sa.Column("text", sa.Text()),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("read_at", TIME, nullable=False),
        sa.UniqueConstraint("snapshot_id", "name"),
        sa.CheckConstraint("source IN ('measured', 'commanded', 'cached')", name="source"),
        sa.CheckConstraint("(number IS NULL) <> (text IS NULL)", name="value"),
    )
    op.create_index(None, "reading", ["name", "number"])
    op.create_index(None, "reading", ["name", "text"])


def create_results() -> None:
    """The tables of what runs left behind."""
    op.create_table(
        "dataset",
        sa.Column("id", ID, primary_key=True),
        sa.Column("run_id", ID, sa.ForeignKey("run.id"), nullable=False),
        sa.Column("pass_index", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("scan_y", sa.Integer(), nullable=False),
        sa.Column("scan_x", sa.Integer(), nullable=False),
        sa.Column("det_y", sa.Integer(), nullable=False),
        sa.Column("det_x", sa.Integer(), nullable=False),
        sa.Column("dtype", sa.Text(), nullable=False),
        sa.Column("frames", sa.Integer(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.UniqueConstraint("run_id", "pass_index"),
        sa.CheckConstraint("length(sha256) = 64", name="sha256"),
        sa.CheckConstraint("scan_y >= 1 AND scan_x >= 1 AND det_y >= 1 AND det_x >= 1", name="shape"),
        sa.CheckConstraint("pass_index >= 0 AND size_bytes >= 0 AND frames >= 0", name="counts"),
    )
    op.create_index(None, "dataset", ["sha256"])
    op.create_table(
        "dataset_location",
        sa.Column("id", ID, primary_key=True),
        sa.Column("dataset_id", ID, sa.ForeignKey("dataset.id"), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.UniqueConstraint("dataset_id", "host", "path"),
    )
    op.create_table(
        "dataset_parent",
        sa.Column("id", ID, primary_key=True),
        sa.Column("dataset_id", ID, sa.ForeignKey("dataset.id"), nullable=False),
        sa.Column("parent_id", ID, sa.ForeignKey("dataset.id"), nullable=False),
        sa.UniqueConstraint("dataset_id", "parent_id"),
        sa.CheckConstraint("dataset_id <> parent_id", name="not_itself"),
    )
    op.create_index(None, "dataset_parent", ["parent_id"])
    op.create_table(
        "quality_result",
        sa.Column("id", ID, primary_key=True),
        sa.Column("run_id", ID, sa.ForeignKey("run.id"), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("analysis", sa.Text()),
        sa.Column("value", sa.Double()),
        sa.Column("limit_value", sa.Double()),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("uncertainty", sa.Double()),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.CheckConstraint("stage IN ('plan', 'online', 'final')", name="stage"),
        sa.CheckConstraint("verdict IN ('pass', 'warn', 'fail', 'not_measurable')", name="verdict"),
    )
    op.create_index(None, "quality_result", ["metric", "verdict"])
    op.create_index(None, "quality_result", ["run_id", "stage"])
    op.create_table(
        "remedy",
        sa.Column("id", ID, primary_key=True),
        sa.Column("run_id", ID, sa.ForeignKey("run.id"), nullable=False),
        sa.Column("cause_metric", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("from_value", JSON),
        sa.Column("to_value", JSON),
        sa.Column("cost", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
    )
    op.create_index(None, "remedy", ["run_id"])
    op.create_table(
        "analysis_result",
        sa.Column("id", ID, primary_key=True),
        sa.Column("run_id", ID, sa.ForeignKey("run.id"), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("path", sa.Text()),
        sa.Column("summary", JSON),
        sa.CheckConstraint("verdict IN ('good', 'doubtful', 'not_possible')", name="verdict"),
    )
    op.create_index(None, "analysis_result", ["run_id"])
