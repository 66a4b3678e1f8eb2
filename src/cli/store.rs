//! `concord store`.

use std::process::ExitCode;

use super::args::{Client, Store};
use super::connect::{config, directory};
use super::{Failure, print};
use crate::clock::{Clock, SystemClock};
use crate::finding::counted;
use crate::settings::Flags;
use crate::store::{self, DataDirectory};

/// Prunes or copies the store.
pub(super) async fn run(client: &Client, command: Store) -> Result<ExitCode, Failure> {
    if client.remote().is_some() {
        return Err(Failure::new(
            "--server: the store of another machine is looked after there; --local means this one's",
        ));
    }
    let failed = |error: &dyn std::fmt::Display| Failure::new(error.to_string());
    match command {
        Store::Prune => {
            let config = config(client, Flags::default())?;
            let directory = DataDirectory::open(&config.data_directory).map_err(|error| failed(&error))?;
            let store = store::open(&directory.database_path(), config.durability).map_err(|error| failed(&error))?;
            let pruned = store.prune(config.retention, SystemClock.now()).await.map_err(|error| failed(&error))?;
            store.close().await.map_err(|error| failed(&error))?;
            print(&format!(
                "removed {}, {}, {}\n",
                counted(pruned.answers, "answer"),
                counted(pruned.verdicts, "verdict"),
                counted(pruned.disclosures, "disclosure"),
            ))?;
        }
        Store::Backup { to } => {
            let from = DataDirectory::lock_status(&directory(client)?).map_err(|error| failed(&error))?.database_path();
            let store = store::open_read_only(&from).map_err(|error| failed(&error))?;
            store.backup(&to).await.map_err(|error| failed(&error))?;
            store.close().await.map_err(|error| failed(&error))?;
            print(&format!("copied {} to {}\n", from.display(), to.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
