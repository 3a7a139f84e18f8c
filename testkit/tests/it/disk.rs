use std::fs;
use std::io::ErrorKind;

use relaypost_testkit::{SmallDisk, skip};

#[test]
fn a_full_disk_takes_nothing_until_it_is_freed() {
    let disk = match SmallDisk::mount(1) {
        Ok(disk) => disk,
        Err(why) => return skip("a_full_disk_takes_nothing_until_it_is_freed", &why),
    };
    for name in ["first", "second"] {
        let file = disk.path().join(name);
        let taken = disk.fill();
        assert!((500_000..=1 << 20).contains(&taken), "{taken} bytes taken");
        let refused = fs::write(&file, "one byte too many").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::StorageFull);
        disk.free();
        fs::write(&file, "room again").unwrap();
    }
    let folder = disk.path().to_owned();
    drop(disk);
    assert!(!folder.exists(), "the mount is left behind");
}
