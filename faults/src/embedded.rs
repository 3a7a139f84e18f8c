//! The embedded process under load on a small disk that is filled and freed several times, and is killed at the end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use relaypost_testkit::{Backend, Proc, SmallDisk, World, skip};
use tokio::{sync::watch, time::sleep};

use crate::{Run, calm::Calm, options, plan::Fault, probe::Probe, scene::Scene, struck::Struck};

/// Its name, for `FAULTS`.
pub(crate) const NAME: &str = "full-disk";

const MEGABYTES: u32 = 64;
/// Requests a second: the disk has room for all of them.
const RATE: f64 = 40.0;
const LOAD: Duration = Duration::from_secs(22);
const TIMES: usize = 3;
/// How long the disk is full, and has room again.
const FULL: Duration = Duration::from_secs(3);
const ROOM: Duration = Duration::from_secs(3);
/// A killed process has ended by then.
const END: Duration = Duration::from_secs(10);

/// Runs it. Where no disk can be mounted, it says that it was skipped.
pub(crate) async fn run(run: &Run) -> Result<()> {
    let disk = match SmallDisk::mount(MEGABYTES) {
        Ok(disk) => disk,
        Err(why) => {
            skip(NAME, &why);
            return Ok(());
        }
    };
    println!(
        "\nembedded: {TIMES} times a full disk in {} s of load, {RATE} requests a second\n",
        LOAD.as_secs()
    );
    let settings = options(Backend::Embedded)?.sqlite_dir(disk.path());
    let mut world = World::start(settings).await;
    let url = watch::Sender::new(world.client.base().to_owned());
    let probe = Probe::start(&world).await;
    let scene = Scene::set(run, &world, vec![url.subscribe()]).await;
    let suffer = |_| fill_and_free(run, &disk, &probe, [url.subscribe()]);
    let mut loaded = scene.load(RATE, LOAD, suffer).await;

    let killed = Instant::now();
    let process = restart(&mut world).await?;
    url.send_replace(process.base_url());
    loaded.struck.push(Struck {
        what: "kill -9".to_owned(),
        ..Struck::by(Fault::KillWorker(0), killed, Instant::now())
    });
    let drained = scene.drain().await;
    let mails = world.smtp.mails();
    scene.report(loaded, drained, &mails).await;
    drop(process);
    world.stop().await;
    Ok(())
}

/// Fills the disk and frees it again. After that everything has to work by itself.
async fn fill_and_free(
    run: &Run,
    disk: &SmallDisk,
    probe: &Probe,
    api: [watch::Receiver<String>; 1],
) -> Vec<Struck> {
    let mut struck = Vec::new();
    for _ in 0..TIMES {
        sleep(ROOM).await;
        let from = Instant::now();
        disk.fill();
        sleep(FULL).await;
        disk.free();
        probe.until_all_work(&api, &Calm::new(), &run.broken).await;
        let until = Instant::now();
        struck.push(Struck {
            what: "full disk".to_owned(),
            from,
            until,
            // What was sent and could not be recorded may be sent again.
            blamed_until: until,
            workers_concerned: 1,
        });
    }
    struck
}

/// `kill -9`, and the same again.
async fn restart(world: &mut World) -> Result<Proc> {
    let process = world.apis.pop().context("the embedded process")?;
    process.kill9();
    process.wait_exit(END).await;
    world
        .try_serve("relaypost")
        .await
        .map_err(|why| anyhow!(why))
}
