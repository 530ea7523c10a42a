"""The server: our own front for what we do ourselves, moto for everything else. It binds 127.0.0.1 alone."""

from __future__ import annotations

import json
import os
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from werkzeug.serving import make_server

from standin import extras
from standin.faults import ACCOUNT, BrokenConnection, Faults
from standin.job import TrainingJob
from standin.training import TrainingJobs
from standin.wire import JOB_KEY, Answer, AwsFault, Call, Environ, answer_fault, answer_json, identify

LOOPBACK = "127.0.0.1"


class StandIn:
    """AWS on a loopback port, in a thread of this process.

    work: a folder for the jobs. faults: what is to go wrong; also reachable as methods of its own name.
    grace: seconds between SIGTERM and SIGKILL. isolation: of jobs, None for the best that the machine allows.
    program: what runs where a request names no entry point. environment: more variables for the jobs.
    """

    account = ACCOUNT

    def __init__(
        self,
        work: Path,
        *,
        port: int = 0,
        grace: float = 120.0,
        isolation: Any = None,
        program: Sequence[str] = ("train",),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        _keep_policies_of_sagemaker()
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app

        class Handler(MotoRequestHandler):
            """Without a line on standard error for each request."""

            def log(self, *arguments: Any, **keys: Any) -> None:
                pass

        self._restore = _allow_conditional_denials()
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(LOOPBACK, port, self._serve, threaded=True, request_handler=Handler)
        self.url = f"http://{LOOPBACK}:{self._server.server_port}"
        self.faults = Faults()
        job_environment = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": f"{JOB_KEY}ROLE00000000",
            "AWS_SECRET_ACCESS_KEY": "of-the-stand-in",
            **(environment or {}),
        }
        settings = {"environment": job_environment, "grace": grace, "isolation": isolation, "program": program}
        self.training = TrainingJobs(self.url, work, self.faults, settings)
        self._thread = threading.Thread(target=self._server.serve_forever, name="stand-in", daemon=True)

    @property
    def environment(self) -> dict[str, str]:
        """What makes boto3 and the aws command come here."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "AKIATESTER0000000000",
            "AWS_SECRET_ACCESS_KEY": "of-the-stand-in",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Kill the jobs and stop serving."""
        self.training.reset()
        self._server.shutdown()
        self._server.server_close()
        self._restore()

    def reset(self) -> None:
        """As new: no job, no bucket, no role, no fault."""
        self.training.reset()
        self.faults.reset()
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/moto-api/reset", method="POST"), timeout=30):
            pass

    def job(self, name: str, region: str = "us-east-1") -> TrainingJob:
        return self.training.job(name, region)

    def interrupt(self, name: str, *, grace: float | None = None, region: str = "us-east-1") -> None:
        """Take a spot job's machines away, wait until it is saved and gone; it then goes on by itself."""
        self.job(name, region).interrupt(grace)

    def __getattr__(self, name: str) -> Any:
        """The controls and logs of `faults`."""
        if name == "faults":
            raise AttributeError(name)
        return getattr(self.faults, name)

    def _serve(self, environ: Environ, start_response: Answer) -> Iterable[bytes]:
        if environ.get("PATH_INFO", "").startswith("/moto-api"):
            return self._moto(environ, start_response)
        call = identify(environ)
        try:
            self.faults.arrives(call, environ)
            handled: Mapping[str, Any] | None = None
            if self.training.handles(call):
                handled = self.training.answer(call)
            elif extras.handles(call):
                handled = extras.answer(call, self.faults)
            if handled is not None:
                return answer_json(json.loads(json.dumps(handled)), start_response)
            return self._pass_on(call, environ, start_response)
        except AwsFault as fault:
            _drain(environ)
            return answer_fault(fault, call.protocol, start_response)
        except BrokenConnection:
            connection: socket.socket = environ["werkzeug.socket"]
            connection.shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError from None

    def _pass_on(self, call: Call, environ: Environ, start_response: Answer) -> Iterable[bytes]:
        """To moto. Left alone, what it lacks becomes a fault of the server, which clients try again and again."""
        try:
            return self._moto(environ, start_response)
        except NotImplementedError:
            raise AwsFault("NotImplemented", f"{call} is in neither moto nor the stand-in", 501) from None


def _keep_policies_of_sagemaker() -> None:
    """Without AWS's own policies AmazonSageMakerFullAccess cannot be attached; all 1,582 make each reset slow."""
    os.environ.setdefault("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
    from moto.iam import models

    known = json.loads(models.aws_managed_policies_data)  # type: ignore[attr-defined]
    few = {name: policy for name, policy in known.items() if name.startswith("AmazonSageMaker")}
    models.aws_managed_policies_data = json.dumps(few)  # type: ignore[attr-defined]


def _allow_conditional_denials() -> Callable[[], None]:
    """Keep moto from taking a bucket policy's Deny under a condition for one without: after `wrn deploy` made its
    bucket, which denies what comes without TLS or from other accounts, every object would be refused to everyone.
    What is returned undoes it."""
    from moto.iam.access_control import PermissionResult
    from moto.s3.models import FakeBucket

    original = FakeBucket.get_permission
    FakeBucket.get_permission = lambda *_: PermissionResult.NEUTRAL  # type: ignore[method-assign]

    def restore() -> None:
        FakeBucket.get_permission = original  # type: ignore[method-assign]

    return restore


def _drain(environ: Environ) -> None:
    """Read what the client still sends: it would take a closed connection for a fault of the network."""
    left = int(environ.get("CONTENT_LENGTH") or 0)
    while left > 0 and (content := environ["wsgi.input"].read(min(left, 1 << 20))):
        left -= len(content)
