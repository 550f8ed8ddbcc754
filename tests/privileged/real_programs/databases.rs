//! redis with pipelining, PostgreSQL under pgbench.

use std::fmt::Write;

use sidecar_tests::{Finished, Mode, Place, Postgres, Program, Redis, in_modes, require};

use super::{armed, assert_bypassed, assert_captured};

const HOST: &str = "127.0.0.1";

/// What `redis-cli OPTIONS` says to these commands.
fn redis_cli(place: &Place, options: &[&str], commands: &str) -> String {
    let mut program = Program::start(place.command("redis-cli").args(["-h", HOST]).args(options));
    program.say(commands);
    program.close_stdin();
    program.wait().success()
}

fn redis(mode: Mode) {
    require!(program "redis-server");
    let (sidecar, net) = armed(mode, "redis");
    let place = sidecar.place();
    let _redis = Redis::start(&net, &place);
    let value = |number: u32| format!("{number}-").repeat(1 + number as usize % 200);
    let (mut sets, mut gets, mut values) = (String::new(), String::new(), String::new());
    for number in 0..5000 {
        writeln!(sets, "SET key:{number} {}\r", value(number)).unwrap();
        writeln!(gets, "GET key:{number}").unwrap();
        writeln!(values, "{}", value(number)).unwrap();
    }
    let piped = redis_cli(&place, &["--pipe"], &sets);
    assert!(piped.contains("errors: 0, replies: 5000"), "{piped}");
    assert!(redis_cli(&place, &[], &gets) == values, "the values are others");
    let mut benchmark = place.command("redis-benchmark");
    benchmark.args([
        "-h",
        HOST,
        "-q",
        "-n",
        "40000",
        "-c",
        "8",
        "-P",
        "16",
        "-d",
        "300",
        "-t",
        "set,get,lpush,lpop",
    ]);
    Finished::of(&mut benchmark).success();
    // Each of its pushes was one, and each was popped.
    assert_eq!(Redis::ask(&place, HOST, &["LLEN", "mylist"]).trim(), "0");
    assert_captured(&sidecar, 30);
    assert_bypassed(&sidecar);
}
in_modes!(redis: Ebpf);

fn postgres(mode: Mode) {
    require!(program "pgbench");
    let (sidecar, net) = armed(mode, "pgbench");
    let place = sidecar.place();
    let _postgres = Postgres::start(&net, &place);
    let pgbench = |args: &[&str]| {
        let mut command = place.command("pgbench");
        command.args(["-h", HOST, "-U", "postgres"]).args(args).arg("postgres");
        Finished::of(&mut command).success()
    };
    pgbench(&["-i", "-s", "1", "-q"]);
    let seen = pgbench(&["-n", "-c", "4", "-j", "2", "-t", "250", "-M", "prepared"]);
    assert!(seen.contains("number of transactions actually processed: 1000/1000"), "{seen}");
    let consistent = "select count(*), sum(delta) = (select sum(abalance) from pgbench_accounts),
        sum(delta) = (select sum(bbalance) from pgbench_branches) from pgbench_history";
    assert_eq!(Postgres::query(&place, HOST, consistent).trim(), "1000|t|t");
    // One large answer.
    let rows = Postgres::query(&place, HOST, "select i, md5(i::text) from generate_series(1, 200000) i");
    assert_eq!(rows.lines().count(), 200_000);
    assert!(rows.lines().enumerate().all(|(index, row)| row.starts_with(&format!("{}|", index + 1))));
    assert_captured(&sidecar, 7);
    assert_bypassed(&sidecar);
}
in_modes!(postgres: Ebpf);
