//! Services of every type, as pods and the machine reach them, and their names.

mod ask;
mod make;
mod outside;
mod script;

use std::time::{Duration, Instant};

use futures::future::join_all;

use crate::checks::look_at;
use crate::lab::{Lab, Spot};
use crate::report::Row;

use ask::{BALANCER, Questions};
pub(crate) use make::Services;

const MADE: &str = "Services";
const PAUSE: Duration = Duration::from_millis(250);

/// From a pod on every node, and from the machine.
pub(crate) async fn services(lab: &Lab) -> Vec<Row> {
    let services = match &lab.services {
        Ok(services) => services,
        Err(why) => {
            let next = "`ripstop status` shows whether the server runs; the log of the server says more";
            return vec![Row::failed(MADE, "", why, next)];
        }
    };
    let pods: Vec<&Spot> = lab.places.iter().filter_map(|place| place.pod.as_ref()).collect();
    let by_pods = join_all(
        pods.iter()
            .map(|pod| until_passed(lab, || from_pod(lab, services, pod))),
    );
    let by_machine = until_passed(lab, || outside::ask(lab, services));
    let (by_pods, by_machine) = tokio::join!(by_pods, by_machine);
    let mut rows = by_pods.concat();
    rows.extend(by_machine);
    if services.all.balancers.is_empty() {
        rows.push(Row::skipped(
            BALANCER,
            "nobody gives load balancers addresses here",
        ));
    }
    // By check, as rows of others are.
    let mut checks: Vec<String> = Vec::new();
    for row in &rows {
        if !checks.contains(&row.check) {
            checks.push(row.check.clone());
        }
    }
    rows.sort_by_key(|row| checks.iter().position(|check| *check == row.check));
    rows
}

/// Asks again until nothing fails, or it has been long enough.
pub(crate) async fn until_passed<F: Future<Output = Vec<Row>>>(lab: &Lab, ask: impl Fn() -> F) -> Vec<Row> {
    let deadline = Instant::now() + lab.patience;
    loop {
        let rows = ask().await;
        if Instant::now() > deadline || !rows.iter().any(Row::is_failure) {
            return rows;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn from_pod(lab: &Lab, services: &Services, from: &Spot) -> Vec<Row> {
    let questions = Questions::of(lab, services, from);
    let (script, subjects) = script::script(lab, services, from);
    let command = ["timeout", "20", "sh", "-c", &script].map(str::to_owned).to_vec();
    let (answers, said) = tokio::join!(lab.get(from, &questions.urls), lab.shell.exec(&from.pod, command));
    let mut rows = Vec::new();
    for question in &questions.all {
        let verdict = answers.as_ref().map_err(Clone::clone);
        let verdict = verdict.and_then(|answers| question.judge(from, &answers[question.urls.clone()]));
        rows.push(row(lab, from, question.check, &question.path, verdict));
    }
    let said = said.and_then(|output| match output.code {
        0 => Ok(output.stdout),
        code => Err(format!("no answer within 20 seconds (exit status {code})")),
    });
    for subject in &subjects {
        let verdict = said.as_ref().map_err(Clone::clone);
        let verdict = verdict.and_then(|said| subject.judge(said));
        rows.push(row(lab, from, subject.check, &subject.path, verdict));
    }
    rows
}

fn row(lab: &Lab, from: &Spot, check: &str, path: &str, verdict: Result<String, String>) -> Row {
    match verdict {
        Ok(detail) => Row::passed(check, path, detail),
        Err(cause) => {
            let logs = look_at(lab.cluster.as_deref(), &[&from.node]);
            let next = if check == script::NAMES {
                logs.replace("agent", "dns")
            } else {
                format!("{logs} says what it couldn't plan or write of a Service")
            };
            Row::failed(check, path, cause, next)
        }
    }
}
