"""The frozen words of the project: every code that crosses a boundary is one of these.

A code is data and never changes; its text for people is composed where it is read, from `TEXT`.
"""

from __future__ import annotations

from enum import StrEnum


class Region(StrEnum):
    """Tumour regions scored by BraTS: they overlap, ET ⊂ TC ⊂ WT."""

    TC = "TC"
    WT = "WT"
    ET = "ET"


class Modality(StrEnum):
    """The four MRI contrasts of a BraTS case, in channel order."""

    T1 = "t1"
    T1CE = "t1ce"
    T2 = "t2"
    FLAIR = "flair"


class CaseProblem(StrEnum):
    """Why a case is skipped. The code may leave the site as part of a count, the detail never."""

    MISSING_MODALITY = "missing_modality"
    MISSING_LABEL = "missing_label"
    UNREADABLE = "unreadable"
    GRID_MISMATCH = "grid_mismatch"
    NOT_FINITE = "not_finite"
    UNKNOWN_LABEL = "unknown_label"
    EMPTY_IMAGE = "empty_image"
    SPACING = "implausible_spacing"
    SHAPE = "implausible_shape"
    EMPTY_FOLDER = "empty_folder"


class Reason(StrEnum):
    """Why a site is missing from a round, or why a vault refuses."""

    NOT_APPROVED = "not_approved"
    REFUSED_BY_SITE = "refused_by_site"
    NOT_IN_ROSTER = "not_in_roster"
    UNKNOWN_STUDY = "unknown_study"
    WRONG_MODEL = "wrong_model"
    BEHIND = "behind"
    BAD_CERTIFICATE = "bad_certificate"
    BAD_MESSAGE = "bad_message"
    JOB_CONFLICT = "job_conflict"
    STALE_ROUND = "stale_round"
    TOO_FEW_CASES = "too_few_cases"
    TOO_SLOW = "too_slow"
    BAD_UPDATE = "bad_update"
    BAD_SIGNATURE = "bad_signature"
    VAULT_UNREACHABLE = "vault_unreachable"
    NO_ANSWER = "no_answer"
    OFFLINE = "offline"
    SITE_ERROR = "site_error"
    NO_KEYS = "no_keys"
    BAD_SETUP = "bad_setup"
    NOT_DISCLOSED = "not_disclosed"
    BAD_SUM = "bad_sum"
    OTHER_STUDY = "other_study"
    NO_TAG_KEY = "no_tag_key"
    BUDGET_SPENT = "budget_spent"
    NOT_PRIVATE = "not_private"
    TOO_MANY_PATIENTS = "too_many_patients"


class Refusal(StrEnum):
    """Why a vault discloses nothing of its masks. Each is written down: an honest server causes few."""

    OTHER_WINDOW = "other_window"
    TOO_FEW_PARTICIPANTS = "too_few_participants"
    NOT_A_PARTICIPANT = "not_a_participant"
    SLOT_USED = "slot_used"
    NOT_UPLOADED = "not_uploaded"
    LEFT_OUT = "left_out"
    TOO_FEW_SURVIVORS = "too_few_survivors"
    OTHER_TRANSCRIPT = "other_transcript"
    OTHER_SET = "other_set"
    LATER_UPLOAD = "later_upload"
    NOT_AGREED = "not_agreed"
    MODEL_OPENED = "model_opened"


class RunStatus(StrEnum):
    """Where a run stands. `FINISHED`, `FAILED` and `STOPPED` are final for a launch."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"


class Decision(StrEnum):
    """What a site said about a charter."""

    PENDING = "pending"
    APPROVED = "approved"
    REFUSED = "refused"


class Stage(StrEnum):
    """What a vault is doing, as coarse as may leave the site."""

    IDLE = "idle"
    PREPARING = "preparing"
    SCORING = "scoring"
    TRAINING = "training"


TEXT: dict[str, str] = {
    CaseProblem.MISSING_MODALITY: "one of the four MRI contrasts is missing",
    CaseProblem.MISSING_LABEL: "the label map is missing",
    CaseProblem.UNREADABLE: "a file cannot be read (truncated or not NIfTI)",
    CaseProblem.GRID_MISMATCH: "the files do not share one voxel grid",
    CaseProblem.NOT_FINITE: "a file holds NaN or infinite voxels",
    CaseProblem.UNKNOWN_LABEL: "the label map holds a value that its year does not know",
    CaseProblem.EMPTY_IMAGE: "an image is empty or constant",
    CaseProblem.SPACING: "the voxel spacing is implausible for a brain scan",
    CaseProblem.SHAPE: "the image is not a 3D volume of plausible size",
    CaseProblem.EMPTY_FOLDER: "the folder holds no NIfTI file",
    Reason.NOT_APPROVED: "the site has not approved this charter",
    Reason.REFUSED_BY_SITE: "the site refused this charter",
    Reason.NOT_IN_ROSTER: "the site is not in the charter's roster, or its key differs",
    Reason.UNKNOWN_STUDY: "the site has not received this charter",
    Reason.WRONG_MODEL: "the model does not match the hash that the charter or the site holds",
    Reason.BEHIND: "the site missed rounds and needs a signed checkpoint",
    Reason.BAD_CERTIFICATE: "the checkpoint is not signed by enough sites",
    Reason.BAD_MESSAGE: "the message breaks the contract",
    Reason.JOB_CONFLICT: "the same job was asked before with other content",
    Reason.STALE_ROUND: "the site has already passed this round",
    Reason.TOO_FEW_CASES: "the site has fewer usable cases than the charter asks for",
    Reason.TOO_SLOW: "the site did not finish within the order's time limit",
    Reason.BAD_UPDATE: "local training gave a non-finite update",
    Reason.BAD_SIGNATURE: "the site's signature does not match its key in the roster",
    Reason.VAULT_UNREACHABLE: "the site's vault did not answer its relay",
    Reason.NO_ANSWER: "no answer before the round's deadline",
    Reason.OFFLINE: "the site's SuperNode is not connected",
    Reason.SITE_ERROR: "an error inside the site; its own log has the detail",
    Refusal.OTHER_WINDOW: "the keys of that window are not the ones in use",
    Refusal.TOO_FEW_PARTICIPANTS: "the set-up has fewer sites than the threshold, or not this one",
    Refusal.NOT_A_PARTICIPANT: "a site is named that took no part in the set-up",
    Refusal.SLOT_USED: "the slot's keys were used or passed over already",
    Refusal.NOT_UPLOADED: "this site uploaded nothing in that slot",
    Refusal.LEFT_OUT: "this site uploaded, but is not among the survivors",
    Refusal.TOO_FEW_SURVIVORS: "a sum of so few sites would say too much about one of them",
    Refusal.OTHER_TRANSCRIPT: "the sites were not all asked the same",
    Refusal.OTHER_SET: "another set of survivors was answered or signed for this slot",
    Refusal.LATER_UPLOAD: "this site has uploaded in a later attempt",
    Refusal.NOT_AGREED: "so many sites are missing that the others must agree on the set first",
    Refusal.MODEL_OPENED: "a sum of this model was opened already: resume that run, or make a new study",
    Reason.NO_KEYS: "the site has no keys in this window; it takes part from the next one",
    Reason.BAD_SETUP: "the one-time keys of this window are incomplete or not signed by their sites",
    Reason.NOT_DISCLOSED: "the vault refused to disclose its masks; `consilium-site status` there says why",
    Reason.BAD_SUM: "the sum is not what its survivors uploaded, or too large for so many sites",
    Reason.OTHER_STUDY: "the site knows this run as one of another charter",
    Reason.NO_TAG_KEY: "the site had no keys when the last sum was opened; it takes part in the next round",
    Reason.BUDGET_SPENT: "the round would spend more privacy than the charter or the site's ceiling leaves",
    Reason.NOT_PRIVATE: "the charter's noise does not keep the ε that it promises",
    Reason.TOO_MANY_PATIENTS: "the site has more patients than the charter's privacy.cohort_cap",
    RunStatus.WAITING: "waiting for Flower to start",
    RunStatus.RUNNING: "running",
    RunStatus.FINISHED: "finished",
    RunStatus.FAILED: "failed",
    RunStatus.STOPPED: "stopped by a person",
    Decision.PENDING: "waiting for the site",
    Decision.APPROVED: "approved",
    Decision.REFUSED: "refused",
    Stage.IDLE: "idle",
    Stage.PREPARING: "preparing scans",
    Stage.SCORING: "scoring the model",
    Stage.TRAINING: "training",
}


def text_of(code: str) -> str:
    """The sentence for people behind a code; an unknown code is shown as it is."""
    return TEXT.get(code, code)
