use super::*;

const TERMS: Terms = Terms {
    max_symbols: 5,
    symbols_per_request: 4,
    request_interval: Duration::from_millis(250),
    answers: Answers::Whole,
    lifetime: None,
    hours: None,
};

fn set(names: &str) -> BTreeSet<Symbol> {
    names.split_whitespace().map(|name| Symbol::new(name).unwrap()).collect()
}

fn requests(terms: Terms, wanted: &str) -> (Requests, Instant) {
    let now = Instant::now();
    let mut requests = Requests::new(terms, Duration::from_secs(10), now);
    requests.want(Arc::new(set(wanted)));
    (requests, now)
}

/// The request that is due, as text; nothing more is due before it is answered.
fn due(requests: &mut Requests, now: &mut Instant) -> String {
    *now += TERMS.request_interval;
    let Some(Request { action, symbols, .. }) = requests.due(*now) else { return String::new() };
    let names: Vec<&str> = symbols.iter().map(Symbol::as_str).collect();
    format!("{action:?} {}", names.join(" "))
}

fn refused(refusals: Vec<Refusal>) -> Vec<String> {
    refusals.into_iter().map(|refusal| refusal.symbol.to_string()).collect()
}

#[test]
fn requests_are_of_a_size_and_one_after_the_other() {
    let (mut requests, mut now) = requests(TERMS, "A B C D E");
    assert_eq!(due(&mut requests, &mut now), "Follow A B C D");
    let sent = now;
    assert_eq!(due(&mut requests, &mut now), "", "the first is not answered");
    requests.answered(Notice::AllDone(7));
    assert!(requests.is_open(), "that was no answer to it");
    requests.answered(Notice::AllDone(1));
    let allowed = requests.wake().unwrap();
    assert!(requests.due(allowed - Duration::from_millis(1)).is_none(), "no sooner than allowed");
    assert_eq!(allowed, sent + TERMS.request_interval);
    assert_eq!(due(&mut requests, &mut now), "Follow E");
    requests.answered(Notice::AllDone(2));
    assert_eq!(requests.wake(), None);
    assert!(requests.is_active());
}

#[test]
fn a_change_is_asked_for_and_nothing_else() {
    let (mut requests, mut now) = requests(TERMS, "A B");
    due(&mut requests, &mut now);
    requests.answered(Notice::Following(set("A B")));
    assert_eq!(due(&mut requests, &mut now), "");
    requests.want(Arc::new(set("B C")));
    assert_eq!(due(&mut requests, &mut now), "Leave A");
    requests.answered(Notice::Following(set("B")));
    assert_eq!(due(&mut requests, &mut now), "Follow C");
    requests.answered(Notice::Following(set("B C")));
    assert_eq!(requests.wake(), None);
    requests.want(Arc::new(set("")));
    assert!(requests.is_idle());
}

#[test]
fn a_refusal_that_names_its_symbol_takes_no_other_with_it() {
    let (mut requests, mut now) = requests(TERMS, "A B C");
    due(&mut requests, &mut now);
    let told = requests.answered(Notice::Refused(Some(Symbol::new("B").unwrap()), "no".into()));
    assert_eq!(refused(told), ["B"]);
    assert_eq!(due(&mut requests, &mut now), "Follow A C");
    requests.answered(Notice::Following(set("A C")));
    assert_eq!(requests.wake(), None);
    // It is asked again when it was not wanted in between.
    requests.want(Arc::new(set("A C")));
    requests.want(Arc::new(set("A B C")));
    assert_eq!(due(&mut requests, &mut now), "Follow B");
}

#[test]
fn one_that_names_none_is_cut_in_halves_until_it_is_found() {
    let (mut requests, mut now) = requests(TERMS, "A B C D");
    let mut asked = Vec::new();
    let mut told = Vec::new();
    for number in 1.. {
        let request = due(&mut requests, &mut now);
        if request.is_empty() {
            break;
        }
        told.extend(refused(match request.contains('C') {
            true => requests.answered(Notice::Refused(None, "no".into())),
            false => requests.answered(Notice::AllDone(number)),
        }));
        asked.push(request);
    }
    assert_eq!(asked, ["Follow A B C D", "Follow A B", "Follow C D", "Follow C", "Follow D"]);
    assert_eq!(told, ["C"]);
    assert_eq!(requests.active, set("A B D"));
}

#[test]
fn what_is_left_out_of_an_answer_is_refused() {
    let (mut requests, mut now) = requests(TERMS, "A B");
    due(&mut requests, &mut now);
    assert_eq!(refused(requests.answered(Notice::Following(set("A")))), ["B"]);
    assert!(!requests.is_hopeless());
    requests.want(Arc::new(set("B")));
    assert!(requests.is_hopeless());
}

#[test]
fn what_is_beyond_the_limit_is_told_per_symbol() {
    let mut requests = Requests::new(TERMS, Duration::from_secs(10), Instant::now());
    assert_eq!(refused(requests.want(Arc::new(set("A B C D E F G")))), ["F", "G"]);
    assert!(requests.want(Arc::new(set("A B C D E F G"))).is_empty(), "once");
}

#[test]
fn a_request_that_is_not_answered_is_overdue() {
    let (mut requests, mut now) = requests(TERMS, "A");
    due(&mut requests, &mut now);
    assert_eq!(requests.wake(), Some(now + Duration::from_secs(10)));
    assert!(!requests.is_overdue(now + Duration::from_secs(9)));
    assert!(requests.is_overdue(now + Duration::from_secs(10)));
    // The time in which nobody listened does not count.
    requests.was_deaf(Duration::from_secs(5));
    assert!(!requests.is_overdue(now + Duration::from_secs(14)));
    assert!(requests.is_overdue(now + Duration::from_secs(15)));
}

#[test]
fn a_provider_that_answers_nothing_is_believed() {
    let (mut requests, mut now) = requests(Terms { answers: Answers::Never, ..TERMS }, "A B");
    assert_eq!(due(&mut requests, &mut now), "Follow A B");
    assert!(requests.is_active() && !requests.is_open());
    assert_eq!(requests.wake(), None);
}

#[test]
fn answers_per_symbol_are_taken_one_by_one() {
    let terms = Terms { answers: Answers::PerSymbol, ..TERMS };
    let symbol = |name| Symbol::new(name).unwrap();
    let (mut requests, mut now) = requests(terms, "A B C");
    due(&mut requests, &mut now);
    requests.answered(Notice::Done(symbol("A")));
    let told = requests.answered(Notice::Refused(Some(symbol("B")), "no".into()));
    assert_eq!(refused(told), ["B"]);
    assert!(requests.is_open());
    assert!(requests.answered(Notice::Refused(Some(symbol("X")), "no".into())).is_empty());
    requests.answered(Notice::Done(symbol("C")));
    assert!(!requests.is_open());
    assert_eq!(due(&mut requests, &mut now), "");
    assert_eq!(requests.active, set("A C"));
}
