"""Following a job from its start to its end, through interruptions, stalls and network errors."""

from __future__ import annotations

from typing import Any

import pytest

from fake_job import FakeJob, epoch_line
from wrn.aws.account.errors import NoAnswer, NoCredentials, NotThere, Throttled
from wrn.aws.account.validate import check_request
from wrn.aws.jobs.follow import PATIENCE_SECONDS, Follower, State
from wrn.aws.jobs.freshness import checkpoint_freshness, freshness_limit
from wrn.aws.jobs.job import Job, describe, our_jobs
from wrn.aws.jobs.logs import LogEvent
from wrn.aws.jobs.progress import Phase, Progress, money, parse_epoch, phase_text, spot_savings
from wrn.aws.jobs.resume import next_name, resume_request
from wrn.errors import AwsError


class Seen:
    """A view that remembers."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.phases: list[str] = []
        self.epochs: list[float] = []
        self.warnings: list[str] = []
        self.last: State | None = None

    def lines(self, events: list[LogEvent], several_hosts: bool) -> None:
        self.messages += [f"{event.host}: {event.message}" if several_hosts else event.message for event in events]

    def phase(self, phase: Phase) -> None:
        self.phases.append(phase.text)

    def epoch(self, figures: dict[str, float]) -> None:
        self.epochs.append(figures["epoch"])

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def state(self, state: State) -> None:
        self.last = state

    def close(self) -> None:
        pass


def followed(job: FakeJob, seen: Seen, **more: Any) -> Follower:
    return Follower(job, job.answer["TrainingJobName"], seen, clock=job.clock, settle=0, **more)  # type: ignore[arg-type]


def test_a_spot_job_from_start_to_end() -> None:
    job, seen = FakeJob(spot=True), Seen()
    follower = followed(job, seen)

    def script():  # type: ignore[no-untyped-def]
        yield 60, lambda: job.enter("Training", "Downloading the training image")
        yield 30, lambda: job.say("fresh start: no checkpoint in /opt/ml/checkpoints")
        yield 30, lambda: (job.say(epoch_line(1)), job.checkpoints.append(job.now))
        yield 30, lambda: job.say(epoch_line(2))
        yield 5, lambda: job.enter("Interrupted")
        yield 60, lambda: job.enter("Starting")
        yield 60, lambda: job.enter("Training")
        yield 5, lambda: job.say("resumed from step 300 (epoch 1), 3 min ago: /opt/ml/x", "algo-1-2")
        yield 30, lambda: job.say(epoch_line(2), "algo-1-2")
        yield 30, lambda: job.say(epoch_line(10, top1=0.81), "algo-1-2")
        yield 30, lambda: job.enter("Uploading")
        yield (
            30,
            lambda: (
                job.enter("Completed"),
                job.answer.update(TrainingTimeInSeconds=300, BillableTimeInSeconds=90),
            ),
        )

    steps = script()

    def wait(seconds: float) -> bool:
        later, happen = next(steps)
        job.now += later
        happen()
        return False

    assert follower.run(wait)
    assert seen.epochs == [1, 2, 2, 10]
    assert [message.split()[0] for message in seen.messages].count("dataset=cifar100") == 4
    assert seen.phases == [
        "starting",
        "training",
        "interrupted: AWS took the spot instance back; waiting for another",
        "starting again, after 1 interruption",
        "training again: resumed",
        "uploading the model",
        "completed",
    ]
    assert seen.last is not None
    assert seen.last.progress.resumed_at == [300]
    assert seen.last.progress.top1 == ("test", 0.81)
    assert not seen.last.money.estimated
    assert seen.last.money.so_far == pytest.approx(1.408 * 90 / 3600)
    assert spot_savings(follower.job) == pytest.approx(0.7)


def test_money_while_it_runs_is_marked_as_estimated_for_spot_and_waiting_is_free() -> None:
    job = FakeJob(spot=True)
    job.now = 100
    job.enter("Training")
    job.now = 1900
    told = money(describe(job, "wrn-a"), job.clock())  # type: ignore[arg-type]
    assert told.estimated
    assert told.so_far == pytest.approx(0.40 * 1.408 / 2)
    assert told.ceiling == pytest.approx(1.408 * 3900 / 3600)
    job.answer["EnableManagedSpotTraining"] = False
    assert money(Job(job.answer), job.clock(), ceiling=1.0).so_far == pytest.approx(1.408 / 2)
    assert money(Job(job.answer), job.clock(), ceiling=1.0).ceiling == 1.0
    job.answer["ResourceConfig"] = {"InstanceType": "ml.new.xlarge", "InstanceCount": 2}
    assert money(Job(job.answer), job.clock()).so_far is None


def test_a_network_that_fails_for_a_while_loses_nothing() -> None:
    job, seen = FakeJob(), Seen()
    follower = followed(job, seen)
    job.say("one")
    job.fail_next = [NoAnswer("GetLogEvents: AWS did not answer"), Throttled("slow down")]
    follower.step()
    follower.step()
    assert seen.messages == []
    assert len(seen.warnings) == 1
    assert "the job keeps running" in seen.warnings[0]
    job.now += 20
    job.say("two")
    follower.step()
    assert seen.messages == ["one", "two"]
    assert seen.warnings[-1] == "AWS answers again; no log lines were lost"


def test_a_network_that_stays_away_ends_the_following_with_the_command_to_go_on() -> None:
    job = FakeJob()
    follower = followed(job, Seen())
    job.say("x")
    job.fail_next = [NoAnswer("x")]
    follower.step()
    job.now += PATIENCE_SECONDS + 10
    job.fail_next = [NoAnswer("x")]
    with pytest.raises(AwsError, match=r"`wrn logs -f wrn-a` follows it again"):
        follower.step()
    job.fail_next = [NoCredentials("expired")]
    with pytest.raises(NoCredentials):
        follower.step()


def test_a_checkpoint_that_does_not_arrive_is_warned_of_once_and_its_coming_is_told() -> None:
    job, seen = FakeJob(), Seen()
    follower = followed(job, seen)
    job.enter("Training")
    job.say("fresh start: no checkpoint in /opt/ml/checkpoints")
    for _ in range(6):  # to 6 min: 2 x 2 min and 3 min of slack are not over
        job.now += 60
        follower.step()
    assert seen.warnings == []
    for _ in range(6):
        job.now += 61
        follower.step()
    assert len(seen.warnings) == 1
    assert "do not arrive in s3://b/wrn/checkpoints/wrn-a: there are none yet" in seen.warnings[0]
    job.checkpoints.append(job.now)
    job.now += 61
    follower.step()
    assert seen.warnings[1:] == ["checkpoints arrive in S3 again"]


def test_how_old_a_checkpoint_may_be() -> None:
    job, progress = FakeJob(), Progress()
    assert freshness_limit(Job(job.answer), progress) == 420
    job.answer["HyperParameters"] = {"checkpoint_minutes": "10"}
    assert freshness_limit(Job(job.answer), progress) == 1380
    job.answer["HyperParameters"] = {"checkpoint_minutes": "0"}
    assert freshness_limit(Job(job.answer), progress) is None
    progress.take([LogEvent("s", 1000, epoch_line(1))])
    assert freshness_limit(Job(job.answer), progress) == 2 * 10 * 30 + 180  # every 10 epochs, of 30 s each
    job.answer["HyperParameters"] = {"recipe": "paper"}
    assert freshness_limit(Job(job.answer), progress) == 420
    assert checkpoint_freshness(job, Job(job.answer), progress) is None  # type: ignore[arg-type]  # it does not train yet


def test_a_checkpoint_from_the_future_is_new() -> None:
    """The clock that gives the time was set back since."""
    job = FakeJob()
    job.enter("Training")
    job.checkpoints = [90_000]
    fresh = checkpoint_freshness(job, Job(job.answer), Progress())  # type: ignore[arg-type]
    assert fresh is not None
    assert fresh.age == 0


def test_several_hosts_are_told_apart() -> None:
    job, seen = FakeJob(), Seen()
    follower = followed(job, seen)
    job.say("a", "algo-1-1")
    job.now = 1
    job.say("b", "algo-2-1")
    follower.step()
    assert seen.messages == ["algo-1: a", "algo-2: b"]


def test_leaving_and_going_on() -> None:
    job, seen = FakeJob(), Seen()
    follower = followed(job, seen)
    assert not follower.run(lambda seconds: True)
    job.say("later")
    job.now = 20
    job.enter("Stopped")
    assert follower.run(lambda seconds: False)
    assert seen.messages == ["later"]
    assert phase_text(follower.job) == "stopped"


def test_what_an_epoch_line_says() -> None:
    assert parse_epoch("epoch of something") is None
    assert parse_epoch("resumed from step 3 (epoch 1)") is None
    figures = parse_epoch(epoch_line(3))
    assert figures is not None
    assert (figures["epoch"], figures["test_top1"], figures["images_per_s"]) == (3, 0.5, 2875.1)
    assert "dataset" not in figures
    diverged = parse_epoch(epoch_line(3).replace("test_loss=1.9000", "test_loss=nan"))
    assert diverged == {key: value for key, value in figures.items() if key != "test_loss"}


def test_the_time_left_follows_the_last_epochs() -> None:
    progress = Progress()
    progress.take([LogEvent("s", 1000 * 40 * number, epoch_line(number)) for number in (1, 2, 3)])
    # The first epoch is known by its own figure, the others by the time between two lines.
    assert progress.epoch_seconds == pytest.approx((30 + 40 + 40) / 3)
    assert progress.seconds_left(120.0) == pytest.approx(7 * 110 / 3)
    assert Progress().seconds_left(0.0) is None


def test_the_time_left_is_what_the_run_itself_says() -> None:
    """The run knows that its images grow."""
    progress = Progress()
    progress.take([LogEvent("s", 40_000, f"{epoch_line(1)} seconds_left=1000")])  # an epoch took 30 s
    assert [progress.seconds_left(now) for now in (40.0, 60.0, 2000.0)] == [1000.0, 980.0, 970.0]


def test_a_name_that_is_nearly_right() -> None:
    job = FakeJob("wrn-standard-1")
    with pytest.raises(NotThere, match=r"no training job wrn-standad-1 in us-east-1; did you mean wrn-standard-1 or"):
        describe(job, "wrn-standad-1")  # type: ignore[arg-type]
    with pytest.raises(NotThere, match="is not a job name"):
        describe(job, "../x")  # type: ignore[arg-type]
    assert [entry["TrainingJobName"] for entry in our_jobs(job)] == [  # type: ignore[arg-type]
        "wrn-standard-1",
        "other",
        "wrn-standard-20260101-000000",
    ]


def test_a_resumed_job_is_the_same_request_with_another_name() -> None:
    job = FakeJob()
    with pytest.raises(AwsError, match="is still running"):
        resume_request(Job(job.answer), job.tags, "wrn-a-r2")
    job.enter("Completed")
    with pytest.raises(AwsError, match="`wrn fetch wrn-a`"):
        resume_request(Job(job.answer), job.tags, "wrn-a-r2")
    job.enter("Stopped")
    request = resume_request(Job(job.answer), job.tags, "wrn-a-r2", instance_type="ml.g6.xlarge", max_runtime=600)
    assert request["CheckpointConfig"]["S3Uri"] == "s3://b/wrn/checkpoints/wrn-a"
    assert request["ResourceConfig"]["InstanceType"] == "ml.g6.xlarge"
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 600}
    assert request["Tags"] == [
        {"Key": "created-by", "Value": "wrn"},
        {"Key": "wrn-job", "Value": "wrn-a-r2"},
        {"Key": "wrn-resumes", "Value": "wrn-a"},
    ]
    check_request("sagemaker", "CreateTrainingJob", request)
    tags = [*job.tags, {"Key": "wrn-user", "Value": "anna"}]
    assert resume_request(Job(job.answer), tags, "x", user="ben")["Tags"][-1] == {"Key": "wrn-user", "Value": "ben"}
    assert "anna" not in str(resume_request(Job(job.answer), tags, "x", user="ben"))
    del job.answer["CheckpointConfig"]
    with pytest.raises(AwsError, match="kept no checkpoints"):
        resume_request(Job(job.answer), job.tags, "x")


def test_names_of_resumed_jobs() -> None:
    assert next_name("job", []) == "job-r2"
    assert next_name("job-r2", ["job", "job-r2", "job-r3"]) == "job-r4"
    assert len(next_name("x" * 63, [])) == 63
