"""AWS's errors, each as one sentence with the fix: an exception for each kind that the program acts on."""

from __future__ import annotations

import os
import re
import traceback
from typing import Any

from wrn.config.files import nearest
from wrn.errors import AwsError


class NotThere(AwsError):
    """The requested thing does not exist."""


class NameInUse(AwsError):
    """Something of this name exists already."""


class QuotaReached(AwsError):
    """The account's quota allows no (more) instances of this type; another type or region may help."""


class LimitReached(AwsError):
    """A limit of the account or of something in it is reached, other than that on instances for jobs."""


class NoCapacity(AwsError):
    """AWS has no such instance available; another type, another region or waiting may help."""


class Denied(AwsError):
    """The caller lacks a permission."""


class NoCredentials(AwsError):
    """There are no credentials, or they are no longer valid."""


class CredentialsRefused(NoCredentials):
    """AWS refused the credentials: they have expired, or were rotated or deleted."""


class Throttled(AwsError):
    """Too many requests, even after all retries."""


class NoAnswer(AwsError):
    """The network or the service gave no answer."""


class Unreachable(NoAnswer):
    """Nothing came back from the network, in any attempt."""


class Conflict(AwsError):
    """Someone else is changing the same thing right now; a retry succeeds."""


class RoleNotReady(AwsError):
    """SageMaker cannot assume the role or read with it: the role or its permissions have not propagated yet, or it does
    not trust SageMaker, or lacks a permission."""


LOG_IN = "log in again (aws sso login, or aws configure), or name a profile with --profile"

_UNUSABLE = {
    *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "UnknownCredentialError"),
    *("InvalidConfigError", "MissingDependencyException"),
}
"""botocore's exceptions for credentials that are missing or misconfigured."""

_CLOCK = re.compile(r"signature (?:expired|not yet current)", re.IGNORECASE)
"""How services other than S3 say that this machine's clock is wrong."""

_CODES: dict[str, type[AwsError]] = {
    **dict.fromkeys(("ResourceInUse", "EntityAlreadyExists", "ResourceInUseException"), NameInUse),
    "RepositoryAlreadyExistsException": NameInUse,
    **dict.fromkeys(("BucketAlreadyExists", "BucketAlreadyOwnedByYou", "DuplicateRecordException"), NameInUse),
    **dict.fromkeys(
        ("OperationAborted", "ConcurrentModification", "ConcurrentModificationException", "ConflictException"), Conflict
    ),
    **dict.fromkeys(
        ("ResourceLimitExceeded", "LimitExceeded", "LimitExceededException", "ServiceQuotaExceededException"),
        QuotaReached,
    ),
    **dict.fromkeys(("CapacityError", "InsufficientInstanceCapacity"), NoCapacity),
    **dict.fromkeys(
        (
            *("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AllAccessDisabled", "403"),
            *("Forbidden", "ForbiddenException", "AuthorizationError", "AuthorizationErrorException"),
        ),
        Denied,
    ),
    **dict.fromkeys(
        (
            *("ExpiredToken", "ExpiredTokenException", "UnrecognizedClientException"),
            *("InvalidClientTokenId", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSignatureException"),
            *("AuthFailure", "TokenRefreshRequired", "InvalidToken"),
        ),
        CredentialsRefused,
    ),
    **dict.fromkeys(
        (
            *("ThrottlingException", "Throttling", "Throttled", "ThrottledException", "TooManyRequestsException"),
            *("RequestLimitExceeded", "SlowDown"),
        ),
        Throttled,
    ),
    **dict.fromkeys(
        (
            *("NoSuchBucket", "NoSuchKey", "NoSuchEntity", "NoSuchEntityException", "ResourceNotFound", "404"),
            *("ResourceNotFoundException", "NotFound", "NotFoundException", "RepositoryNotFoundException"),
            *("NoSuchLifecycleConfiguration", "NoSuchBucketPolicy", "NoSuchTagSet", "NoSuchResourceException"),
            *("NoSuchPublicAccessBlockConfiguration", "ServerSideEncryptionConfigurationNotFoundError"),
            *("NoSuchUpload", "ImageNotFoundException"),
        ),
        NotThere,
    ),
}
"""By the error code of AWS's services; S3 answers a HEAD request with the bare HTTP status."""

_NO_RIGHT = re.compile(r"\brole\b.* has \"?s3:ListBucket", re.IGNORECASE)
"""SageMaker finds nothing in a channel: it is empty, or may not be listed; SageMaker cannot tell which."""

_NO_ROLE = re.compile(
    rf"assume (?:the )?role|\brole\b.* (?:is|are) (?:in|not )valid|{_NO_RIGHT.pattern}", re.IGNORECASE
)
_NOT_FOUND = re.compile(r"could not find|does not exist|requested resource not found|no such", re.IGNORECASE)


def explain(error: Exception, operation: str) -> AwsError:
    """The AwsError for what botocore raised during `operation`; never contains the request or a credential.

    A bug in the program itself (a TypeError, say) is raised again unchanged.
    """
    if isinstance(error, AwsError):
        return error  # such as from the prompt for a code, which botocore calls
    operation = getattr(error, "operation_name", None) or operation  # of the login that preceded `operation`
    names = {kind.__name__ for kind in type(error).__mro__}
    reason = " ".join(str(error).split())
    if "ProfileNotFound" in names:
        return NoCredentials(f"profile: {_no_profile(str(error.kwargs['profile']))}")  # type: ignore[attr-defined]
    if untrusted := certificate_reason(error):
        return NoAnswer(f"{operation}: {untrusted}")
    if _is_of_credential_process(error):
        return NoCredentials(f"{operation}: no AWS credentials: {_CREDENTIAL_PROCESS}")
    if names & _UNUSABLE:
        return NoCredentials(f"{operation}: no usable AWS credentials ({reason}); {LOG_IN}")
    if "RefreshWithMFAUnsupportedError" in names:
        return CredentialsRefused(
            f"{operation}: the login with an MFA code has expired; repeat the command for a new one"
        )
    if names & {"TokenRetrievalError", "SSOError", "LoginError"}:
        return NoCredentials(f"{operation}: the login has expired ({reason}); {LOG_IN}")
    if "ConfigParseError" in names:
        return AwsError(f"{operation}: AWS's configuration cannot be read ({reason}); fix it")
    if "ParamValidationError" in names:
        raise error  # a request that does not match the service model: a bug in wrn
    if "NoRegionError" in names:
        return AwsError(f"{operation}: no region is known; give --region, or set AWS_REGION")
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return _from_answer(response.get("Error", {}), operation, status)
    if type(error).__module__.partition(".")[0] in ("botocore", "boto3", "urllib3", "s3transfer"):
        fix = "check the network and --region, then try again"
        return Unreachable(f"{operation}: AWS did not answer ({reason}); {fix}")
    raise error


def certificate_reason(error: Exception) -> str:
    """Why the certificate of AWS's endpoint was not accepted, with the fix; empty for any other error."""
    kind, reason = type(error).__name__, " ".join(str(error).split())
    bundle = os.environ.get("AWS_CA_BUNDLE")
    if kind == "SSLError" and (bundle or "CERTIFICATE" in reason):
        fix = "if a proxy here inspects TLS, set AWS_CA_BUNDLE to a file with its CA certificate"
        if bundle:
            fix = f"AWS_CA_BUNDLE is {bundle}: it must be a file of CA certificates, that of any proxy here included"
        return f"AWS's certificate could not be verified ({reason}); {fix}"
    if kind == "InvalidConfigError" and "CA bundle" in reason:
        return "AWS_CA_BUNDLE is set but empty; set it to a file of CA certificates, or unset it"
    return ""


_CREDENTIAL_PROCESS = (
    "the credential_process in AWS's configuration failed, or printed something else than credentials; "
    "run that command by itself to see why"
)
"""Nothing that it printed is repeated: that may hold a secret."""


def _is_of_credential_process(error: Exception) -> bool:
    """botocore lets most of what goes wrong with that command through as it is: a missing program, output that is no
    JSON, an expiry that is no date."""
    if type(error).__name__ == "CredentialRetrievalError":
        return bool(error.kwargs.get("provider") == "custom-process")  # type: ignore[attr-defined]
    frames = traceback.walk_tb(error.__traceback__)
    return any(type(frame.f_locals.get("self")).__name__ == "ProcessProvider" for frame, _ in frames)


def _no_profile(name: str) -> str:
    """Says that there is no such profile, and which ones exist."""
    import botocore.session

    known = sorted(botocore.session.Session().available_profiles)
    missing = f"there is no {name} in AWS's configuration"
    if not known:
        return f"{missing}, nor any other; create one with `aws configure`"
    return f"{missing}{nearest(name, known)}; there are {', '.join(known)}"


def _from_answer(answer: dict[str, Any], operation: str, status: int) -> AwsError:
    code = str(answer.get("Code", "Unknown"))
    said = " ".join(str(answer.get("Message", "")).split()) or "no reason given"
    kind = _CODES.get(code)
    if kind is None and code == "ValidationException":  # SageMaker has no separate codes for these
        kind = RoleNotReady if _NO_ROLE.search(said) else NotThere if _NOT_FOUND.search(said) else None
    if kind is QuotaReached and operation != "CreateTrainingJob":
        kind = LimitReached
    if kind is None and status >= 500:  # the request may have succeeded all the same
        return NoAnswer(f"{operation}: AWS failed to answer ({said.rstrip('.')}, {code}); try again in a minute")
    if code in ("301", "PermanentRedirect", "AuthorizationHeaderMalformed"):
        region = f" ({answer['Region']})" if answer.get("Region") else ""
        return AwsError(f"{operation}: the bucket is in another region{region}; give that as --region")
    if code in ("RequestTimeTooSkewed", "RequestExpired") or _CLOCK.search(said):
        return AwsError(f"{operation}: {said.rstrip('.')} ({code}); set this machine's clock")
    log_in = LOG_IN
    if code in ("InvalidClientTokenId", "UnrecognizedClientException"):  # a disabled region answers the same
        log_in += ", or a region that is enabled in the account with --region"
    if operation.startswith("AssumeRole") and kind is Denied:  # by botocore, to log in
        return NoCredentials(f"{operation}: {said.rstrip('.')} ({code}); {_role_refused(said)}")
    may = "let sagemaker.amazonaws.com assume it"
    if _NO_RIGHT.search(said):
        may = "nothing is there, or the role may not list that bucket"
    fix = {
        NotThere: "check the name and --region",
        NameInUse: "give another --name",
        QuotaReached: "ask for more under Service Quotas in the console, or name other types with --fallback",
        LimitReached: "remove what is no longer needed, or ask for more under Service Quotas in the console",
        NoCapacity: "wait, or name other types with --fallback",
        Denied: "ask the account's administrator for this permission",
        CredentialsRefused: log_in,
        Throttled: "try again in a minute",
        Conflict: "try again in a minute",
        RoleNotReady: f"if the role or its permissions are new, try again in a minute; otherwise {may}",
    }.get(kind or AwsError)
    return (kind or AwsError)(f"{operation}: {said.rstrip('.')} ({code}){f'; {fix}' if fix else ''}")


def _role_refused(said: str) -> str:
    """What to do if the profile's role cannot be assumed: STS refuses a wrong MFA code like a missing permission."""
    if "one time pass code" in said and "must provide" not in said:
        return "a code is valid once, for about 30 s: wait for the next one, then repeat the command"
    if "MultiFactorAuthentication failed" in said:
        return "set mfa_serial in the profile to the ARN of your device, as IAM's console shows it"
    return (
        "ask the account's administrator to let you assume the role, or, if it requires an MFA code, set mfa_serial in "
        "the profile to the ARN of your device"
    )
