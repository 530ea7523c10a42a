"""Notifications and alarms: requests that match AWS's service model and can be sent again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from wrn.aws.account.errors import LimitReached
from wrn.aws.account.notifications import (
    CURVES,
    Notices,
    alarm_call,
    budget_calls,
    dashboard_call,
    ensure_notices,
    read_target,
    rule_calls,
    topic_arn,
    topic_policy,
)
from wrn.aws.account.session import Session
from wrn.aws.account.validate import check_request
from wrn.aws.jobs.metrics import FIELDS, RESUMED
from wrn.aws.jobs.options import DeployOptions
from wrn.aws.jobs.request import training_job
from wrn.config.layers import resolve
from wrn.errors import AwsError

if TYPE_CHECKING:
    from mocked_aws import Faults

OPTIONS = DeployOptions(name="job", account="123456789012", region="eu-west-1")
TOPIC = "arn:aws:sns:eu-west-1:123456789012:wrn-jobs"


def ensure(notices: Notices) -> tuple[Session, list[str]]:
    session, told = Session(region="eu-west-1"), list[str]()
    ensure_notices(session, OPTIONS, notices, told.append)
    return session, told


def test_every_request_is_one_that_aws_knows() -> None:
    calls = [*rule_calls(OPTIONS, TOPIC, "wrn-jobs", ("Failed",)), alarm_call(OPTIONS, TOPIC), dashboard_call(OPTIONS)]
    for call in [*calls, *budget_calls(OPTIONS, Notices(), TOPIC)]:
        check_request(call.service, call.operation, call.request)
    assert set(CURVES) <= {*FIELDS, RESUMED}


def test_the_rule_is_for_the_jobs_of_this_bucket() -> None:
    put, targets = rule_calls(OPTIONS, TOPIC, "wrn-jobs", ("Failed", "Completed"))
    pattern = json.loads(put.request["EventPattern"])
    config = resolve(None, {}).config
    output = training_job(config, config, "standard", OPTIONS)["OutputDataConfig"]["S3OutputPath"]
    assert pattern["detail"]["OutputDataConfig"]["S3OutputPath"] == [output]
    assert targets.request["Targets"][0]["Arn"] == TOPIC
    mine = rule_calls(replace(OPTIONS, bucket="mine"), TOPIC, "wrn-jobs", ("Failed",))[0]
    assert mine.request["Name"] != put.request["Name"]


def test_a_mail_is_asked_for_once(faults: Faults) -> None:
    session, told = ensure(Notices("me@example.com"))
    assert told == ["notify: confirm the email that AWS sends now, or no notification will arrive"]
    there = session.call("sns", "GetTopicAttributes", {"TopicArn": TOPIC})["Attributes"]["Policy"]
    assert json.loads(there) == topic_policy(OPTIONS, TOPIC)
    rule = session.call("events", "ListTargetsByRule", {"Rule": "wrn-jobs"})
    assert rule["Targets"][0]["Arn"] == TOPIC
    session, told = ensure(Notices("me@example.com"))
    assert told == []
    assert [operation for _, operation in session.sent] == [
        "GetTopicAttributes", "ListSubscriptionsByTopic", "PutRule", "ListTargetsByRule",
    ]  # fmt: skip


def test_a_topic_of_ones_own_is_taken_as_it_is(faults: Faults) -> None:
    own = "arn:aws:sns:eu-west-1:123456789012:mine"
    assert topic_arn(OPTIONS, Notices(own)) == own
    session, _ = ensure(Notices(own))
    assert {service for service, _ in session.sent} == {"events"}


def test_alarms(faults: Faults) -> None:
    _, told = ensure(Notices(alarms=True, monthly_dollars=50))
    alone = "alarms: shown only in the console; give --notify to be notified"
    assert told == [alone, "budget: notifies when SageMaker costs the account more than $50 a month"]
    session, told = ensure(Notices(alarms=True, monthly_dollars=70))
    assert told == [alone, "budget: wrn-sagemaker is now $70 a month"]
    (alarm,) = session.call("cloudwatch", "DescribeAlarms")["MetricAlarms"]
    assert (alarm["AlarmName"], alarm["AlarmActions"]) == ("wrn-job-failed", [TOPIC])
    (dashboard,) = session.call("cloudwatch", "ListDashboards")["DashboardEntries"]
    name = {"DashboardName": "wrn-eu-west-1"}
    assert dashboard["DashboardName"] == name["DashboardName"]
    assert "created-by=wrn" in session.call("cloudwatch", "GetDashboard", name)["DashboardBody"]
    assert [operation for service, operation in session.sent if service == "budgets"] == [
        "CreateBudget",
        "UpdateBudget",
    ]


def test_a_budget_that_nobody_spoke_of_stays(faults: Faults) -> None:
    def limit() -> str:
        account = {"AccountId": OPTIONS.account, "BudgetName": "wrn-sagemaker"}
        return str(
            Session(region="eu-west-1").call("budgets", "DescribeBudget", account)["Budget"]["BudgetLimit"]["Amount"]
        )

    ensure(Notices(alarms=True, monthly_dollars=7))
    session, told = ensure(Notices(alarms=True))
    assert told[-1] == "budget: wrn-sagemaker exists already and stays unchanged; --budget changes it"
    assert ("budgets", "UpdateBudget") not in session.sent
    assert float(limit()) == 7
    session.call("budgets", "DeleteBudget", {"AccountId": OPTIONS.account, "BudgetName": "wrn-sagemaker"})
    _, told = ensure(Notices(alarms=True))
    assert told[-1] == "budget: notifies when SageMaker costs the account more than $100 a month"
    assert float(limit()) == 100


def test_the_second_who_is_told_takes_nobodys_place(faults: Faults) -> None:
    first, second = (f"arn:aws:sns:eu-west-1:123456789012:{name}" for name in ("annas", "bens"))
    for topic in (first, second, second):
        session, _ = ensure(Notices(topic, alarms=True))
    for rule in ("wrn-jobs", "wrn-job-failed"):
        targets = session.call("events", "ListTargetsByRule", {"Rule": rule})["Targets"]
        assert [target["Arn"] for target in targets] == [first, second]
    (alarm,) = session.call("cloudwatch", "DescribeAlarms")["MetricAlarms"]
    assert alarm["AlarmActions"] == [first, second]


def test_a_target_of_another_id_is_not_told_twice(faults: Faults) -> None:
    session = Session(region="eu-west-1")
    put, targets = rule_calls(OPTIONS, TOPIC, "wrn-jobs", ("Completed", "Failed", "Stopped"))
    targets.request["Targets"][0]["Id"] = "topic"
    for call in (put, targets):
        session.call(call.service, call.operation, call.request)
    ensure(Notices("me@example.com"))
    (target,) = session.call("events", "ListTargetsByRule", {"Rule": "wrn-jobs"})["Targets"]
    assert target["Id"] == "topic"


def test_what_somebody_made_of_the_alarm_stays(faults: Faults) -> None:
    first, second = (f"arn:aws:sns:eu-west-1:123456789012:{name}" for name in ("annas", "bens"))
    session, _ = ensure(Notices(first, alarms=True))
    by_hand = {**alarm_call(OPTIONS, first).request, "Threshold": 3.0, "OKActions": [first], "EvaluationPeriods": 2}
    session.call("cloudwatch", "PutMetricAlarm", by_hand)
    again, _ = ensure(Notices(first, alarms=True))
    assert ("cloudwatch", "PutMetricAlarm") not in again.sent
    ensure(Notices(second, alarms=True))
    (alarm,) = session.call("cloudwatch", "DescribeAlarms")["MetricAlarms"]
    assert (alarm["Threshold"], alarm["EvaluationPeriods"], alarm["OKActions"]) == (3.0, 2, [first])
    assert alarm["AlarmActions"] == [first, second]
    by_percentile = alarm_call(OPTIONS, first, {"AlarmName": "a", "ExtendedStatistic": "p90"}).request
    assert "Statistic" not in by_percentile, "AWS takes one of the two"


def test_more_than_can_be_told(faults: Faults) -> None:
    faults.refuse("PutTargets", "LimitExceededException", "The requested resource exceeds the limit", times=3)
    with pytest.raises(
        LimitReached, match=r"^notify: the rule wrn-jobs already notifies 5 topics, .*; remove one of them"
    ):
        ensure(Notices("me@example.com"))
    for number in range(5):
        ensure(Notices(f"{TOPIC}{number}", alarms=True))
    with pytest.raises(AwsError, match=r"^alarms: the alarm wrn-job-failed already notifies 5 topics"):
        ensure(Notices(TOPIC, alarms=True))


def test_a_target_that_the_rule_did_not_take(faults: Faults) -> None:
    """EventBridge answers this with 200."""
    entry = {"TargetId": "topic", "ErrorCode": "AccessDenied", "ErrorMessage": "the topic may not be used"}
    faults.say("PutTargets", {"FailedEntryCount": 1, "FailedEntries": [entry]})
    with pytest.raises(AwsError, match=r"^notify: the topic may not be used$"):
        ensure(Notices("me@example.com"))
    faults.say("PutTargets", {"FailedEntryCount": 1, "FailedEntries": [{"TargetId": "topic"}]})
    with pytest.raises(AwsError, match=r"^notify: the rule took no target$"):
        ensure(Notices("me@example.com"))
    faults.say("PutTargets", {"FailedEntryCount": 0, "FailedEntries": []})
    ensure(Notices("me@example.com"))


def test_nothing_asked_nothing_sent(faults: Faults) -> None:
    assert ensure(Notices())[0].sent == []


def test_words_of_notify() -> None:
    for text in (TOPIC, "me@example.com", "https://example.com/hook?x=1"):
        assert read_target(text) == text
    for text in ("me", "http://example.com", "arn:aws:sqs:eu-west-1:123456789012:x", "https://user:pass@host/", ""):
        with pytest.raises(ValueError, match="is neither the ARN of an SNS topic"):
            read_target(text)


def test_events_pass_without_a_condition_and_the_others_with_one() -> None:
    events, others = topic_policy(OPTIONS, TOPIC)["Statement"]
    assert (events["Principal"], "Condition" in events) == ({"Service": ["events.amazonaws.com"]}, False)
    assert others["Condition"] == {"StringEquals": {"aws:SourceAccount": OPTIONS.account}}


def test_somebody_elses_dashboard_stays(faults: Faults) -> None:
    body = json.dumps({"widgets": []})
    session = Session(region="eu-west-1")
    session.call("cloudwatch", "PutDashboard", {"DashboardName": "wrn-eu-west-1", "DashboardBody": body})
    with pytest.raises(AwsError, match="that wrn did not create"):
        ensure(Notices(alarms=True))
    there = session.call("cloudwatch", "GetDashboard", {"DashboardName": "wrn-eu-west-1"})
    assert there["DashboardBody"] == body
