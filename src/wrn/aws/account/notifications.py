"""Notifications of finished jobs, and alarms on failures and spending: requests as pure functions, then sent.

An SNS topic is the hub: an event rule sends the end of each of wrn's jobs to it, as do the alarms. Every request is
idempotent.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wrn.aws.account.errors import LimitReached, NameInUse, NotThere
from wrn.aws.account.names import LOG_GROUP, OWNER_TAG, PREFIX, dashboard_name
from wrn.aws.account.partitions import partition
from wrn.aws.account.policies import Document
from wrn.aws.account.session import Session
from wrn.aws.jobs.calls import OWNER, Call
from wrn.aws.jobs.options import DeployOptions, bucket_name
from wrn.errors import AwsError
from wrn.strict_json import to_json

TOPIC, RULE, FAILED, BUDGET = "wrn-jobs", "wrn-jobs", "wrn-job-failed", "wrn-sagemaker"

MONTHLY_DOLLARS = 100.0

MOST_TOLD = 5
"""The maximum number of targets of a rule, and of actions of an alarm."""

CURVES = (
    *("train_loss", "val_loss", "val_top1", "test_loss", "test_top1", "test_top5"),
    *("lr", "images_per_s", "mfu", "resumed_from_step"),
)
"""Metrics on the dashboard, one graph each."""


@dataclass(frozen=True)
class Notices:
    """The requested notifications. target: a topic's ARN, an email address, an https address, or empty."""

    target: str = ""
    alarms: bool = False
    monthly_dollars: float | None = None
    """None: MONTHLY_DOLLARS for a new budget; an existing one stays unchanged."""


def read_target(text: str) -> str:
    """The target of --notify, validated. Raises ValueError."""
    topic = r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}"
    if re.fullmatch(rf"{topic}|https://[^\s@]+|[^\s@:/]+@[^\s@:/]+\.[^\s@:/]+", text, re.ASCII) is None:
        raise ValueError("is neither the ARN of an SNS topic, nor an email address, nor an https address")
    return text


def topic_arn(options: DeployOptions, notices: Notices) -> str:
    if notices.target.startswith("arn:"):
        return notices.target
    return f"arn:{partition(options.region)}:sns:{options.region}:{options.account}:{TOPIC}"


def check_topic(notices: Notices, regions: Iterable[str]) -> None:
    """Raises AwsError for a topic that a rule cannot reach: it must be in the job's region."""
    place = notices.target.split(":")[3] if notices.target.startswith("arn:") else ""
    others = sorted({region for region in regions if place and region != place})
    if others:
        raise AwsError(
            f"notify: the topic is in {place}, and events of jobs in {', '.join(others)} cannot reach it; "
            "give a topic there, or an email address"
        )


def topic_policy(options: DeployOptions, topic: str) -> Document:
    """AWS's own services may publish to the topic; for alarms and budgets, only those of this account.

    EventBridge supports no condition in a topic's policy: with one, no event arrives (EventBridge user guide,
    resource-based policies, "Amazon SNS permissions").
    """

    def may_publish(sid: str, *services: str) -> dict[str, Any]:
        return {
            "Sid": sid,
            "Effect": "Allow",
            "Principal": {"Service": [f"{service}.amazonaws.com" for service in services]},
            "Action": "SNS:Publish",
            "Resource": topic,
        }

    of_account = {"Condition": {"StringEquals": {"aws:SourceAccount": options.account}}}
    statements = [may_publish("Events", "events"), may_publish("Watchers", "cloudwatch", "budgets") | of_account]
    return {"Version": "2012-10-17", "Statement": statements}


def rule_calls(options: DeployOptions, topic: str, name: str, states: tuple[str, ...]) -> list[Call]:
    """Send the end of wrn's jobs, recognised by their output path, to the topic as a sentence."""
    pattern = {
        "source": ["aws.sagemaker"],
        "detail-type": ["SageMaker Training Job State Change"],
        "detail": {
            "TrainingJobStatus": list(states),
            "OutputDataConfig": {"S3OutputPath": [f"s3://{bucket_name(options)}/{PREFIX}/output"]},
        },
    }
    sentence = {
        "InputPathsMap": {"job": "$.detail.TrainingJobName", "status": "$.detail.TrainingJobStatus"},
        "InputTemplate": '"SageMaker job <job>: <status>; see: wrn status <job>"',
    }
    name = rule_name(options, name)
    return [
        Call(
            "events",
            "PutRule",
            {"Name": name, "EventPattern": to_json(pattern), "State": "ENABLED", "Tags": OWNER},
        ),
        Call(
            "events",
            "PutTargets",
            {"Rule": name, "Targets": [{"Id": _target_id(topic), "Arn": topic, "InputTransformer": sentence}]},
        ),
    ]


def _target_id(topic: str) -> str:
    """Unique per topic: a target with the same Id would be replaced, and its topic no longer notified."""
    return f"topic-{hashlib.sha256(topic.encode()).hexdigest()[:8]}"


def rule_name(options: DeployOptions, name: str) -> str:
    """The user's own bucket gets its own rules."""
    return f"{name}-{hashlib.sha256(options.bucket.encode()).hexdigest()[:8]}" if options.bucket else name


def alarm_call(options: DeployOptions, topic: str, there: Mapping[str, Any] | None = None) -> Call:
    """In alarm for five minutes after one of wrn's jobs failed, as counted by the event rule.

    there: the existing alarm with the users' changes and its actions, as the request replaces all of it.
    """
    alarm = there or {
        "AlarmName": rule_name(options, FAILED),
        "AlarmDescription": "A training job of wrn has failed; wrn jobs says which.",
        "Namespace": "AWS/Events",
        "MetricName": "TriggeredRules",
        "Dimensions": [{"Name": "RuleName", "Value": rule_name(options, FAILED)}],
        "Statistic": "Sum",
        "Period": 300,
        "EvaluationPeriods": 1,
        "Threshold": 1.0,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "notBreaching",
    }
    told = dict.fromkeys([*alarm.get("AlarmActions", ()), topic])
    return Call("cloudwatch", "PutMetricAlarm", {**alarm, "AlarmActions": list(told), "Tags": OWNER})


def dashboard_call(options: DeployOptions) -> Call:
    """One graph per metric, with a curve for each job."""
    widgets = [
        {
            "type": "metric",
            "x": 12 * (number % 2),
            "y": 6 * (number // 2),
            "width": 12,
            "height": 6,
            "properties": {
                "title": name,
                "region": options.region,
                "view": "timeSeries",
                "metrics": [[{"expression": _search(name), "id": "e1"}]],
            },
        }
        for number, name in enumerate(CURVES)
    ]
    # Dashboards have no tags: teardown recognises its own by this text.
    mark = {"type": "text", "width": 24, "height": 1, "properties": {"markdown": "=".join(OWNER_TAG)}}
    widgets.append(mark | {"x": 0, "y": 3 * len(CURVES)})
    return Call(
        "cloudwatch",
        "PutDashboard",
        {"DashboardName": dashboard_name(options.region), "DashboardBody": to_json({"widgets": widgets})},
    )


def _search(name: str) -> str:
    return f"SEARCH('{{{LOG_GROUP},TrainingJobName}} MetricName=\"{name}\"', 'Average', 60)"


def budget_calls(options: DeployOptions, notices: Notices, topic: str) -> tuple[Call, Call]:
    """A monthly SageMaker budget that notifies when it is, or is forecast to be, exceeded: to create, and to update."""
    budget: dict[str, Any] = {
        "BudgetName": BUDGET,
        "BudgetLimit": {"Amount": f"{notices.monthly_dollars or MONTHLY_DOLLARS:.2f}", "Unit": "USD"},
        "CostFilters": {"Service": ["Amazon SageMaker"]},
        "TimeUnit": "MONTHLY",
        "BudgetType": "COST",
    }
    told = [
        {
            "Notification": {
                "NotificationType": kind,
                "ComparisonOperator": "GREATER_THAN",
                "Threshold": 100.0,
                "ThresholdType": "PERCENTAGE",
            },
            "Subscribers": [{"SubscriptionType": "SNS", "Address": topic}],
        }
        for kind in ("ACTUAL", "FORECASTED")
    ]
    account = {"AccountId": options.account}
    return (
        Call(
            "budgets",
            "CreateBudget",
            {**account, "Budget": budget, "NotificationsWithSubscribers": told, "ResourceTags": OWNER},
        ),
        Call("budgets", "UpdateBudget", {**account, "NewBudget": budget}),
    )


def ensure_notices(session: Session, options: DeployOptions, notices: Notices, tell: Callable[[str], None]) -> None:
    """Create topic, rules, alarms, dashboard and budget, as requested. Raises AwsError."""
    if not notices.target and not notices.alarms:
        return
    topic = topic_arn(options, notices)
    if topic != notices.target:
        topic = _ensure_topic(session, options, topic)
        _ensure_subscription(session, notices, topic, tell)
    calls = rule_calls(options, topic, RULE, ("Completed", "Failed", "Stopped")) if notices.target else []
    if notices.alarms:
        there = _alarm(session, rule_name(options, FAILED))
        alarm = alarm_call(options, topic, there)
        calls += [*rule_calls(options, topic, FAILED, ("Failed",)), dashboard_call(options)]
        calls += [alarm] if alarm.request["AlarmActions"] != there.get("AlarmActions") else []
        _refuse_anothers_dashboard(session, dashboard_name(options.region))
        if len(alarm.request["AlarmActions"]) > MOST_TOLD:
            raise AwsError(f"alarms: {_full(f'the alarm {rule_name(options, FAILED)}')}")
    for call in calls:
        if call.operation == "PutTargets" and _tells(session, call.request["Rule"], topic):
            continue
        try:
            answer = session.call(call.service, call.operation, call.request)
        except LimitReached:
            if call.operation != "PutTargets":
                raise
            raise LimitReached(f"notify: {_full('the rule ' + call.request['Rule'])}") from None
        if answer.get("FailedEntryCount"):
            raise AwsError(f"notify: {answer['FailedEntries'][0].get('ErrorMessage', 'the rule took no target')}")
    if notices.alarms:
        if not notices.target:
            tell("alarms: shown only in the console; give --notify to be notified")
        create, update = budget_calls(options, notices, topic)
        try:
            session.call(create.service, create.operation, create.request)
            most = notices.monthly_dollars or MONTHLY_DOLLARS
            tell(f"budget: notifies when SageMaker costs the account more than ${most:.0f} a month")
        except NameInUse:
            if notices.monthly_dollars is None:
                tell(f"budget: {BUDGET} exists already and stays unchanged; --budget changes it")
            else:
                session.call(update.service, update.operation, update.request)
                tell(f"budget: {BUDGET} is now ${notices.monthly_dollars:.0f} a month")


def _alarm(session: Session, name: str) -> dict[str, Any]:
    """The alarm as PutMetricAlarm takes it; empty if there is none."""
    found = session.call("cloudwatch", "DescribeAlarms", {"AlarmNames": [name]})["MetricAlarms"]
    model = session.client("cloudwatch").meta.service_model
    members = model.operation_model("PutMetricAlarm").input_shape.members
    return {key: value for key, value in found[0].items() if key in members} if found else {}


def _tells(session: Session, rule: str, topic: str) -> bool:
    """Whether a rule already has the topic as a target, under any Id: a second one would notify twice."""
    targets = session.pages("events", "ListTargetsByRule", "Targets", {"Rule": rule})
    return any(target["Arn"] == topic for target in targets)


def _full(what: str) -> str:
    return (
        f"{what} already notifies {MOST_TOLD} topics, the maximum; remove one of them in the console, or name one of "
        "them with --notify"
    )


def _refuse_anothers_dashboard(session: Session, name: str) -> None:
    try:
        body = session.call("cloudwatch", "GetDashboard", {"DashboardName": name})["DashboardBody"]
    except NotThere:
        return
    if "=".join(OWNER_TAG) not in body:
        raise AwsError(f"alarms: there is a dashboard {name} that wrn did not create; rename that one")


def _ensure_topic(session: Session, options: DeployOptions, topic: str) -> str:
    """The topic's ARN as SNS gives it.

    Looked up first: SNS refuses to create a topic again if its tags differ, such as by one that somebody added.
    """
    look = {"TopicArn": topic}
    try:
        answer = session.call("sns", "GetTopicAttributes", look)
    except NotThere:
        topic = str(session.call("sns", "CreateTopic", {"Name": TOPIC, "Tags": OWNER})["TopicArn"])
        answer = session.call("sns", "GetTopicAttributes", {"TopicArn": topic})
    there = answer["Attributes"].get("Policy", "{}")
    wanted = topic_policy(options, topic)
    if json.loads(there).get("Statement") != wanted["Statement"]:
        request = {"TopicArn": topic, "AttributeName": "Policy", "AttributeValue": to_json(wanted)}
        session.call("sns", "SetTopicAttributes", request)
    return topic


def _ensure_subscription(session: Session, notices: Notices, topic: str, tell: Callable[[str], None]) -> None:
    """Only once: a second subscription would send a second confirmation email."""
    if not notices.target:
        return
    try:
        there = list(session.pages("sns", "ListSubscriptionsByTopic", "Subscriptions", {"TopicArn": topic}))
    except NotThere:
        there = []
    if any(entry["Endpoint"] == notices.target for entry in there):
        return
    kind = "https" if notices.target.startswith("https://") else "email"
    session.call("sns", "Subscribe", {"TopicArn": topic, "Protocol": kind, "Endpoint": notices.target})
    who = "confirm the email that AWS sends now" if kind == "email" else "the address must confirm AWS's request"
    tell(f"notify: {who}, or no notification will arrive")
