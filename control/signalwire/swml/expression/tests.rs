use super::*;

struct Names(Object, Budget);

impl Scope for Names {
    fn find(&self, name: &str) -> Option<Found<'_>> {
        self.0.get(name).map(Found::Value)
    }

    fn budget(&self) -> &Budget {
        &self.1
    }
}

fn names() -> Names {
    let json = r#"{"a":2,"b":"3","s":"Hello World","list":[1,2,3],"o":{"k":{"d":["x"]}},"t":true,"e":""}"#;
    let value: Value = serde_json::from_str(json).unwrap();
    Names(value.object().unwrap().clone(), Budget::default())
}

fn of(text: &str) -> String {
    match evaluate(text, &names()) {
        Ok(value) => value.to_string(),
        Err(EvalError::Failed(why)) => format!("error: {why}"),
        Err(EvalError::Exhausted) => "exhausted".to_owned(),
    }
}

#[test]
fn operators_behave_as_in_javascript() {
    for (text, value) in [
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("a + b", "23"),
        ("a * b", "6"),
        ("a - -1", "3"),
        ("7 % 4", "3"),
        ("1 / 3", "0.3333333333333333"),
        ("0.1 + 0.2", "0.30000000000000004"),
        ("a == '2'", "true"),
        ("a === '2'", "false"),
        ("a !== 2", "false"),
        ("a != 3 && t", "true"),
        ("e || 'none'", "none"),
        ("missing ?? 'none'", "none"),
        ("!t", "false"),
        ("a > 1 ? 'many' : 'few'", "many"),
        ("a < 1 ? 'few' : a < 3 ? 'some' : 'many'", "some"),
        ("'10' < '9'", "true"),
        ("10 < '9'", "false"),
        ("null == undefined", "true"),
        ("null == 0", "false"),
        ("'' == 0", "true"),
        ("missing > 1", "false"),
        ("typeof missing", "undefined"),
        ("-b", "-3"),
        ("+b + 1", "4"),
        ("1 + 1 + 'a' + 1 + 1", "2a11"),
        ("NaN == NaN", "false"),
        ("2 ** 10", "1024"),
        ("2 ** 3 ** 2", "512"),
        ("2 ** -1", "0.5"),
        ("(-2) ** 2", "4"),
        ("2 * 3 ** 2", "18"),
        ("a ** b", "8"),
        ("-(2 ** 2)", "-4"),
        ("1 ** Infinity", "NaN"),
    ] {
        assert_eq!(of(text), value, "{text}");
    }
}

#[test]
fn members_methods_and_lists_behave_as_in_javascript() {
    for (text, value) in [
        ("o.k.d[0]", "x"),
        ("o['k'].d.length", "1"),
        ("list.length", "3"),
        ("s.length", "11"),
        ("s[0]", "H"),
        ("s.toUpperCase()", "HELLO WORLD"),
        ("s.substring(0, 5).toLowerCase()", "hello"),
        ("s.substring(5, 0)", "Hello"),
        ("s.slice(-5)", "World"),
        ("s.replace('World', 'there')", "Hello there"),
        ("s.split(' ').join('-')", "Hello-World"),
        ("s.includes('lo W')", "true"),
        ("s.indexOf('o')", "4"),
        ("'  x '.trim()", "x"),
        ("'7'.padStart(3, '0')", "007"),
        ("list.includes(2)", "true"),
        ("list.map(x => x * a).join(',')", "2,4,6"),
        ("list.filter((x, i) => x > 1 && i < 2).length", "1"),
        ("list.map(x => list.map(y => x + y).join('')).join(' ')", "234 345 456"),
        ("list.reduce((x, y) => x + y)", "6"),
        ("list.reduce((x, y) => x + y, '')", "123"),
        ("[1, 'a', [2]].length", "3"),
        ("({x: 1, y: {z: 2}}).y.z", "2"),
        ("(1.005 * 100).toFixed(2)", "100.50"),
        ("(2.5).toFixed(0)", "3"),
        ("(-1.5).toFixed(0)", "-2"),
        ("(5).toString()", "5"),
        ("parseInt('12px')", "12"),
        ("parseInt('ff', 16)", "255"),
        ("parseInt('x')", "NaN"),
        ("parseFloat('3.5kg')", "3.5"),
        ("Boolean(e)", "false"),
        ("Math.round(2.5) + Math.ceil(1.1) + Math.floor(-0.5)", "4"),
        ("Math.max(1, a, list.length)", "3"),
        ("Math.min()", "Infinity"),
        ("missing?.x", "undefined"),
        ("o?.k?.d?.length", "1"),
        ("JSON.stringify(list)", "[1,2,3]"),
    ] {
        assert_eq!(of(text), value, "{text}");
    }
}

#[test]
fn an_unsupported_expression_is_an_error() {
    for text in [
        "",
        "1 +",
        "(1",
        "a = 1",
        "a; b",
        "function() { return 1 }",
        "x => x",
        "missing.x",
        "missing()",
        "s.explode()",
        "'open",
        "new Date()",
        "/a/.test(s)",
        "1 2",
        "a[",
        "#",
        "[].reduce((x, y) => x + y)",
        "list.each(x => x)",
        "-2 ** 2",
        "!a ** 2",
        "2 **",
    ] {
        assert!(of(text).starts_with("error: "), "{text}: {}", of(text));
    }
}

#[test]
fn length_and_depth_of_an_expression_are_limited() {
    assert!(of(&"1".repeat(LONGEST + 1)).starts_with("error"));
    for text in ["(".repeat(1000), "!".repeat(1000), "[".repeat(1000), "a?".repeat(500), "-".repeat(999)] {
        assert!(of(&text).starts_with("error"), "{text}");
    }
    assert_eq!(of(&["1"; 500].join("+")), "error: too many operators in a row");
}

#[test]
fn every_costly_expression_exhausts_the_budget() {
    let list = |length| Value::List(vec![Value::Null; length]);
    let text = |length| Value::Text("x".repeat(length));
    let names = [
        ("l", list(50)),
        ("long", list(20_000)),
        ("t", text(900_000)),
        ("o", Value::Object((0..5_000).map(|key| (format!("k{key}"), text(10))).collect())),
    ];
    let names: Object = names.into_iter().collect();
    for dear in [
        "l.map(a=>l.map(b=>l.map(c=>l.map(d=>l.map(e=>l.map(f=>1))))))",
        "l.map(a=>t+t)",
        "l.reduce((a,b)=>a+a,'x')",
        "l.reduce((a,b)=>[a,a],'x')",
        "l.map(x=>long)",
        "l.map(x=>t===t)",
        "l.map(x=>t<t)",
        "l.map(x=>[t,t]==[t,t])",
        "l.map(x=>-t)",
        "l.map(x=>typeof t)",
        "l.map(x=>!t)",
        "l.map(x=>t.length)",
        "l.map(x=>t[899999])",
        "l.map(x=>long.map(y=>o.k4999))",
        "l.map(x=>({a:t,b:t}))",
        "l.filter(x=>t?t:t).map(x=>t)",
        "l.map(x=>(t&&t)||t)",
        "l.map(x=>o[t])",
        "l.map(x=>JSON.parse(JSON.stringify(o)))",
        "'x'.repeat(2000000).toUpperCase()",
        "'xxxxxxxxxx'.repeat(100000).replaceAll('x', 'xxxxxxxx')",
        "t.split('')",
        "JSON.parse('['+'1,'.repeat(400000)+'1]')",
        "''.padStart(4000000)",
        "long.join(t)",
    ] {
        let names = Names(names.clone(), Budget::default());
        assert_eq!(evaluate(dear, &names), Err(EvalError::Exhausted), "{dear}");
        assert_eq!(names.1.left(), 0, "{dear}");
    }
}

#[test]
fn a_path_costs_only_the_size_of_its_value() {
    let large = Value::Text("x".repeat(900_000));
    let inner: Object = [("small", Value::from("y")), ("large", large)].into_iter().collect();
    let names = Names([("o", Value::Object(inner))].into_iter().collect(), Budget::default());
    assert_eq!(evaluate("[o.small, o['small'], o.small.length].join()", &names), Ok("y,y,1".into()));
    assert!(super::super::budget::BUDGET - names.1.left() < 20_000);
}

#[test]
fn the_depth_of_a_value_in_an_expression_is_limited() {
    let long: Object = [("l", Value::List(vec![Value::Null; 1_000]))].into_iter().collect();
    let names = Names(long, Budget::default());
    for deep in ["l.reduce((a,b)=>[a])", "l.reduce((a,b)=>({a}))", "l.reduce((a,b)=>[].concat([[a]]))"] {
        names.1.renew();
        assert_eq!(evaluate(deep, &names), Err("a value is nested too deeply".into()), "{deep}");
    }
}

#[test]
fn an_expression_of_random_text_never_panics() {
    let letters: Vec<char> = "ab1.'\"`([{}])+-*/%!=<>&|?:,xé\\ .length=>typeof ".chars().collect();
    let mut state = 7_u64;
    for _ in 0..20_000 {
        let text: String = (0..12)
            .filter_map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                letters.get(usize::try_from(state >> 33).unwrap_or(0) % letters.len())
            })
            .collect();
        let _ = evaluate(&text, &names());
    }
}
