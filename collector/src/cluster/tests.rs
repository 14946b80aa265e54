//! Fits over made-up agents, whose tasks are known.

use super::*;
use understudy_call::call::{Message, Role};
use understudy_call::features::phrases_of;
use understudy_call::taskbook::Task;

struct Kept {
    id: String,
    conversation: String,
    request: Request,
}

const INVOICE: &str = "You are an accounting clerk. Read the invoice that follows, find its total, its date and the name \
    of the supplier, and give them as JSON with the keys total, date and supplier. Give nothing but the JSON.";
const ROUTER: &str = "Sort the customer's message into one of these kinds: billing, delivery, complaint, praise. Reply \
    with the kind alone, in lower case, without any explanation. If you are not sure, reply with complaint.";
const SUBJECTS: [&str; 12] = [
    "sofa", "lamp", "carpet", "kettle", "bicycle", "mirror", "garden", "piano", "camera", "violin", "ladder", "teapot",
];

fn call(id: String, conversation: String, messages: &[(Role, String)]) -> Kept {
    let messages = messages
        .iter()
        .map(|(role, text)| Message::text(*role, text.clone()))
        .collect();
    Kept {
        id,
        conversation,
        request: Request {
            messages,
            ..Request::default()
        },
    }
}

/// Twelve conversations of each agent; the router's have a second turn after a tool.
fn traffic() -> Vec<Kept> {
    let mut kept = Vec::new();
    for (at, subject) in SUBJECTS.iter().enumerate() {
        let invoice = format!("Invoice {at}00 for one {subject}, payable to the {subject} works of 2026.");
        let text = [(Role::System, INVOICE.to_owned()), (Role::User, invoice)];
        kept.push(call(format!("invoice-{at}"), format!("a{at}"), &text));
        let mut text = vec![
            (Role::System, ROUTER.to_owned()),
            (Role::User, format!("My {subject} is late again!")),
        ];
        kept.push(call(format!("router-{at}"), format!("b{at}"), &text));
        text.push((Role::Assistant, "Looking it up.".to_owned()));
        text.push((Role::Tool, format!("{{\"order\": \"{subject}\"}}")));
        kept.push(call(format!("routed-{at}"), format!("b{at}"), &text));
    }
    let stray = [(
        Role::User,
        "Sing me the ballad of the lighthouse keeper's cat, slowly.".to_owned(),
    )];
    kept.push(call("stray".to_owned(), "c".to_owned(), &stray));
    kept
}

fn inputs(kept: &[Kept]) -> Vec<FitInput<'_>> {
    kept.iter()
        .map(|kept| FitInput {
            call_id: &kept.id,
            conversation: &kept.conversation,
            request: &kept.request,
            response: None,
        })
        .collect()
}

#[test]
fn recurring_kinds_are_tasks_and_the_rest_is_other() {
    let kept = traffic();
    let book = fit(&inputs(&kept), None, &FitOptions::default()).unwrap();
    assert_eq!(
        book.tasks.iter().map(|task| task.size).collect::<Vec<_>>(),
        [12, 12, 12]
    );
    assert_eq!(TaskBook::from_json(book.to_json().as_bytes()).unwrap(), book);
    let compiled = book.compile();
    let task_of = |id: &str| {
        let kept = kept.iter().find(|kept| kept.id == id).unwrap();
        compiled.assign(&kept.request).map(|assignment| assignment.task)
    };
    assert_eq!(task_of("stray"), None);
    assert_eq!(task_of("invoice-1"), task_of("invoice-7"));
    assert_eq!(task_of("router-1"), task_of("router-7"));
    assert_ne!(task_of("router-1"), task_of("routed-1"));
    assert!(task_of("routed-1").unwrap().contains("-after-tool-"));
    assert!(task_of("invoice-1").is_some() && task_of("router-1").is_some());
}

#[test]
fn the_order_of_calls_does_not_matter() {
    let kept = traffic();
    let mut calls = inputs(&kept);
    let one = fit(&calls, None, &FitOptions::default()).unwrap();
    calls.reverse();
    calls.swap(3, 17);
    assert_eq!(
        fit(&calls, None, &FitOptions::default()).unwrap().to_json(),
        one.to_json()
    );
}

#[test]
fn ids_names_and_wishes_outlive_a_refit() {
    let kept = traffic();
    let mut first = fit(&inputs(&kept), None, &FitOptions::default()).unwrap();
    let id = first.tasks[0].id.clone();
    first.rename(&id, "Read invoices").unwrap();
    first.ignore(&id, true).unwrap();
    // The prompt has a new version, and one agent is gone.
    let mut changed: Vec<Kept> = traffic()
        .into_iter()
        .filter(|kept| !kept.id.starts_with("routed"))
        .collect();
    for kept in &mut changed {
        kept.request.messages[0].text.push_str(" Be quick.");
    }
    let second = fit(&inputs(&changed), Some(&first), &FitOptions::default()).unwrap();
    assert_eq!(second.version, first.version + 1);
    assert!(
        second.tasks.iter().all(|task| first.task(&task.id).is_some()),
        "{:?}",
        second.tasks
    );
    let task = second.task(&id).unwrap();
    assert_eq!((task.name.as_str(), task.ignored), ("Read invoices", true));
}

#[test]
fn merges_and_splits_outlive_a_refit() {
    let kept = traffic();
    let mut book = fit(&inputs(&kept), None, &FitOptions::default()).unwrap();
    let id_of = |book: &TaskBook, id: &str| {
        let kept = kept.iter().find(|kept| kept.id == id).unwrap();
        book.clone()
            .compile()
            .assign(&kept.request)
            .map(|assignment| assignment.task)
    };
    let (router, routed) = (id_of(&book, "router-1").unwrap(), id_of(&book, "routed-1").unwrap());
    book.merge(&routed, &router).unwrap();
    let invoice = id_of(&book, "invoice-1").unwrap();
    // Sofas are invoiced by another department.
    let child = Task {
        id: "sofas-1".into(),
        ..Task::default()
    };
    book.split(&invoice, &phrases_of("payable to the sofa works"), child)
        .unwrap();
    assert_eq!(id_of(&book, "invoice-0").as_deref(), Some("sofas-1"));
    for _ in 0..2 {
        book = fit(&inputs(&kept), Some(&book), &FitOptions::default()).unwrap();
        assert_eq!(id_of(&book, "router-1"), Some(router.clone()));
        assert_eq!(id_of(&book, "routed-1"), Some(router.clone()));
        assert_eq!(id_of(&book, "invoice-0").as_deref(), Some("sofas-1"));
        assert_eq!(id_of(&book, "invoice-1"), Some(invoice.clone()));
        let sizes: Vec<u64> = book.tasks.iter().map(|task| task.size).collect();
        assert_eq!(sizes, [24, 11, 1]);
        assert_eq!(book.task("sofas-1").unwrap().parent.as_deref(), Some(&*invoice));
    }
}

#[test]
fn a_task_that_falls_apart_keeps_its_id_on_the_larger_part_and_names_the_parent() {
    let kept = traffic();
    let mut one = fit(&inputs(&kept), None, &FitOptions::default()).unwrap();
    let task_of = |book: &TaskBook, id: &str| {
        let kept = kept.iter().find(|kept| kept.id == id).unwrap();
        book.clone().compile().assign(&kept.request).unwrap().task
    };
    // As if a fit before it had seen no difference between the two, and no operator had wished so.
    let (larger, smaller) = (task_of(&one, "router-1"), task_of(&one, "routed-1"));
    one.merge(&smaller, &larger).unwrap();
    one.tasks.iter_mut().for_each(|task| task.joined = false);
    let most: Vec<Kept> = traffic().into_iter().filter(|kept| kept.id != "routed-3").collect();
    let two = fit(&inputs(&most), Some(&one), &FitOptions::default()).unwrap();
    assert_eq!(task_of(&two, "router-1"), larger);
    let born = task_of(&two, "routed-1");
    assert_ne!(born, larger);
    assert_eq!(two.task(&born).unwrap().parent, Some(larger));
}

#[test]
fn a_book_shows_template_lines_and_no_content() {
    let kept = traffic();
    let json = fit(&inputs(&kept), None, &FitOptions::default()).unwrap().to_json();
    assert!(json.contains("accounting clerk"));
    assert!(SUBJECTS.iter().all(|subject| !json.contains(subject)), "{json}");
}

#[test]
fn nothing_to_learn_from_is_an_error_and_a_sample_bounds_the_work() {
    assert!(matches!(
        fit(&[], None, &FitOptions::default()),
        Err(FitError::NoCalls { calls: 0 })
    ));
    let kept = traffic();
    let options = FitOptions {
        sample: 20,
        min_conversations: 2,
        min_calls: 2,
        min_prompts: 2,
        ..FitOptions::default()
    };
    let one = fit(&inputs(&kept), None, &options).unwrap();
    assert_eq!(one.sampled, 20);
    assert_ne!(
        one,
        fit(&inputs(&kept), None, &FitOptions { seed: 1, ..options }).unwrap()
    );
}
