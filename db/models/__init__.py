"""The tables of the provenance database, by topic."""

from db.models.base import Base
from db.models.instrument import (
    Calibration,
    CalibrationBasis,
    CalibrationEvidence,
    CalibrationWithdrawal,
    DeviceReading,
    DeviceSnapshot,
    DoseEntry,
    ExposureIntent,
    RunCalibration,
)
from db.models.landed import Landed
from db.models.launch import Launch
from db.models.lease import InstrumentSession, Lease
from db.models.results import AnalysisResult, Dataset, DatasetLocation, DatasetParent, QualityResult, Remedy
from db.models.work import Area, Event, Night, Plan, Run, Sample, SoftwareEnvironment, Target

__all__ = [
    "AnalysisResult",
    "Area",
    "Base",
    "Calibration",
    "CalibrationBasis",
    "CalibrationEvidence",
    "CalibrationWithdrawal",
    "Dataset",
    "DatasetLocation",
    "DatasetParent",
    "DeviceReading",
    "DeviceSnapshot",
    "DoseEntry",
    "Event",
    "ExposureIntent",
    "InstrumentSession",
    "Landed",
    "Launch",
    "Lease",
    "Night",
    "Plan",
    "QualityResult",
    "Remedy",
    "Run",
    "RunCalibration",
    "Sample",
    "SoftwareEnvironment",
    "Target",
]
