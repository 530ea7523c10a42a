"""Send a job to SageMaker: put in place what it needs, start it, and try the next choice if there is no capacity.

All of this can be interrupted at any point and run again: what exists already is found and kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from wrn.aws.account.bucket import Sleep, ensure_bucket
from wrn.aws.account.errors import NoAnswer, NoCapacity, QuotaReached, RoleNotReady, Throttled
from wrn.aws.account.notifications import Notices, ensure_notices
from wrn.aws.account.policies import role_policy
from wrn.aws.account.quota import check_quota
from wrn.aws.account.role import Role, ensure_role
from wrn.aws.account.session import Session
from wrn.aws.jobs.capacity import Choice, options_for
from wrn.aws.jobs.failures import advise
from wrn.aws.jobs.job import describe, start
from wrn.aws.jobs.options import DeployOptions, bucket_name
from wrn.aws.jobs.request import code_prefix, data_uri, training_job, wheels_prefix
from wrn.aws.s3.code_archive import Bundle
from wrn.aws.s3.dataset_files import Parcel
from wrn.aws.s3.upload import Bucket, Content, Progress, all_there, is_there, upload, upload_files
from wrn.config.schema import Config
from wrn.errors import AwsError
from wrn.text import duration

ROLE_SECONDS, ROLE_PAUSE = 120.0, 4.0
"""A new role or permission propagates within seconds, according to AWS; in practice within a minute."""

POLL_SECONDS = 10.0

WAITING = ("Starting", "Pending", "LaunchingMLInstances", "PreparingTrainingStack")
"""Secondary states of a job that has no instance yet."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for an instance before the next choice is tried, in seconds."""

    each: float = 600.0
    """For each choice but the last, where the job keeps waiting."""
    on_demand_after: float | None = None
    """Total time without a spot instance after which to switch to on-demand. None: never."""
    last: float | None = None
    """For the last choice, before the job is stopped. None: as long as SageMaker lets it wait."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to run, with what, and where."""

    config: Config
    base: Config
    recipe: str
    options: DeployOptions
    code: Bundle
    data: Parcel | None = None
    """None: the job takes no data, or its data is in S3 already."""
    wheels: Parcel | None = None
    notices: Notices = field(default_factory=Notices)
    choices: tuple[Choice, ...]
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True)
class Launched:
    """A job that SageMaker accepted, and the options of that attempt."""

    name: str
    session: Session
    options: DeployOptions


@dataclass
class Launch:
    """An order being launched. `started` is the job started last, whatever happens after that."""

    session: Session
    order: Order
    tell: Callable[[str], None]
    on_progress: Progress | None = None
    sleep: Sleep = time.sleep
    clock: Callable[[], float] = time.monotonic
    started: str = ""
    started_in: Session | None = None
    """The session of its region."""
    _role: Role | None = field(default=None, init=False)
    """The role as found or created last; one for all choices."""
    _ready: list[tuple[str, Any]] = field(default_factory=list, init=False)
    """The regions and role policies for which everything is in place."""

    def run(self) -> Launched:
        """Try each choice in order. Raises AwsError: the last refusal, or an error common to all of them."""
        begun = self.clock()
        ways = self.order.choices
        number = 0
        while True:
            way, last = ways[number], number == len(ways) - 1
            options = options_for(self.order.options, way, number + 1)
            session = self.session.in_region(way.region)
            try:
                self.prepare(session, options)
                self.create(session, options)
                patience = self.order.patience.last if last else self._time_for(number, begun)
                if patience is None or self._has_machine(session, options, patience):
                    return Launched(options.name, session, options)
                if last:
                    raise NoCapacity(
                        f"{options.name}: no {options.instance_type} was available in {options.region}; wait longer "
                        "with --wait-for-capacity, or name others with --fallback"
                    )
            except (QuotaReached, NoCapacity) as error:
                if last:
                    raise
                self.tell(f"{error}")
            number += 1
            if self._spot_is_over(begun) and any(not way.spot for way in ways[number:]):
                number = next(index for index in range(number, len(ways)) if not ways[index].spot)
            self.tell(f"next: {ways[number]}")

    def prepare(self, session: Session, options: DeployOptions) -> None:
        """Put bucket, role, data and code in place where missing. A quota of zero is reported before a long upload."""
        order = self.order
        place = (options.region, role_policy(options))
        if place in self._ready:
            return
        ensure_bucket(session, options, self.tell, self.sleep)
        # Before the uploads: a new role needs some time to propagate.
        self._role = ensure_role(session, options, self.tell, self.sleep)
        bucket = Bucket(bucket_name(options), "" if options.bucket else options.account, options.kms_key)
        if order.data and not self._data_is_there(session, bucket, options, order.data):
            check_quota(session, options)
            order.data.check()
            prefix = _key(data_uri(order.config, options), bucket)
            self.tell(f"data: {order.data.size / 1e6:.1f} MB to s3://{bucket.name}/{prefix}")
            if len(order.data.files) == 1:
                ((name, path),) = order.data.files
                upload(session, bucket, prefix + name, path, self.on_progress)
            else:
                upload_files(session, bucket, prefix, order.data.files, self.on_progress)
        upload(session, bucket, _key(code_prefix(options), bucket) + order.code.name, order.code.content)
        if order.wheels:
            upload_files(session, bucket, _key(wheels_prefix(options), bucket), order.wheels.files)
        ensure_notices(session, options, order.notices, self.tell)
        self._ready.append(place)

    def _data_is_there(self, session: Session, bucket: Bucket, options: DeployOptions, data: Parcel) -> bool:
        prefix = _key(data_uri(self.order.config, options), bucket)
        if len(data.files) > 1:
            return all_there(session, bucket, prefix)
        ((name, path),) = data.files
        return is_there(session, bucket, prefix + name, Content(path))

    def create(self, session: Session, options: DeployOptions) -> None:
        """Start the job, waiting for a role that was just created or given permissions."""
        order, role = self.order, self._role
        if role is not None:
            options = replace(options, role_arn=role.arn)
        request = training_job(order.config, order.base, order.recipe, options)
        until = self.clock() + ROLE_SECONDS
        self.started, self.started_in = options.name, session
        while True:
            try:
                start(session, request)
                return
            except RoleNotReady:
                if role is None or not role.fresh or self.clock() > until:
                    self.started = ""
                    raise
                self.sleep(ROLE_PAUSE)
            except NoAnswer:
                raise
            except AwsError:
                self.started = ""
                raise

    def _time_for(self, number: int, begun: float) -> float:
        """How long to wait for this choice: the last spot one until on-demand is allowed, the others `each`."""
        ways, patience = self.order.choices, self.order.patience
        if not ways[number].spot or patience.on_demand_after is None:
            return patience.each
        left = max(0.0, begun + patience.on_demand_after - self.clock())
        last_of_spot = number + 1 == len(ways) or not ways[number + 1].spot
        return left if last_of_spot else min(left, patience.each)

    def _spot_is_over(self, begun: float) -> bool:
        after = self.order.patience.on_demand_after
        return after is not None and self.clock() >= begun + after

    def _has_machine(self, session: Session, options: DeployOptions, seconds: float) -> bool:
        """Whether the job gets an instance in time; otherwise it is stopped. Raises NoCapacity if AWS has none."""
        until = self.clock() + seconds
        self.tell(f"waiting up to {duration(seconds)} for {options.instance_type} in {options.region}")
        while True:
            try:
                job = session.call("sagemaker", "DescribeTrainingJob", {"TrainingJobName": options.name})
            except (NoAnswer, Throttled):
                job = {"SecondaryStatus": WAITING[0]}
            if job.get("TrainingJobStatus") == "Failed":
                self.started = ""
                advice = advise(str(job.get("FailureReason", "")), instance_type=options.instance_type)
                if advice.kind == "capacity":
                    raise NoCapacity(f"{options.name}: {advice.cause}; wait, or name others with --fallback")
                return True  # it had an instance and failed for another reason: not to be retried
            if job.get("SecondaryStatus") not in WAITING:
                return True
            if self.clock() >= until:
                self._stop(session, options)
                self.tell(f"{options.name}: no {options.instance_type} within {duration(seconds)}; stopped")
                self.started = ""
                return False
            self.sleep(min(POLL_SECONDS, max(0.0, until - self.clock())))

    @staticmethod
    def _stop(session: Session, options: DeployOptions) -> None:
        try:
            session.call("sagemaker", "StopTrainingJob", {"TrainingJobName": options.name})
        except NoAnswer:
            raise
        except AwsError:
            if not describe(session, options.name).is_over:  # it ended just now, and AWS refuses to stop it
                raise


def _key(uri: str, bucket: Bucket) -> str:
    return uri.removeprefix(f"s3://{bucket.name}/")


def with_key(options: DeployOptions, data: Parcel | None) -> DeployOptions:
    """The options with the key that is derived from the content of the data."""
    return replace(options, data_key=data.key) if data else options
