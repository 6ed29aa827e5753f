//! What a launcher of several processes says in the environment.

use std::env;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

/// One of several processes that a launcher started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Its number, from 0.
    pub rank: usize,
    /// Processes in all.
    pub n_ranks: usize,
    /// Its number among those of its machine, which is that of its GPU.
    pub local_rank: usize,
    /// Processes on its machine.
    pub n_local_ranks: usize,
    /// Where the processes meet.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// Whether the launcher itself keeps the store at which they meet; otherwise rank 0 does.
    pub launcher_keeps_store: bool,
    /// How often the launcher has started them anew.
    pub attempt: u64,
}

impl Launch {
    /// What the environment says: the variables that `torchrun` sets, or Slurm's in their place. None if it names no processes.
    ///
    /// # Errors
    /// A variable is missing or makes no sense.
    pub fn from_environment() -> Result<Option<Launch>> {
        Launch::from_variables(&|name| env::var(name).ok())
    }

    fn from_variables(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Launch>> {
        let variables = Variables(variable);
        let Some(n_ranks) = variables.number("WORLD_SIZE", "SLURM_NTASKS")? else {
            return Ok(None);
        };
        // A job of one Slurm task that is not started by `srun` has no rank.
        let rank = variables.number("RANK", "SLURM_PROCID")?;
        if n_ranks == 1 {
            return Ok(None);
        }
        let rank = rank.context(
            "WORLD_SIZE is set and RANK is not: expected both, as torchrun or srun set them; or unset WORLD_SIZE",
        )?;
        ensure!(
            rank < n_ranks,
            "RANK is {rank}, expected less than WORLD_SIZE, which is {n_ranks}"
        );
        let n_local_ranks = variables
            .number("LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE")?
            .unwrap_or(1);
        ensure!(
            n_local_ranks > 0,
            "LOCAL_WORLD_SIZE or SLURM_NTASKS_PER_NODE is 0, expected the number of processes on this machine"
        );
        let Some(host) = variable("MASTER_ADDR") else {
            bail!(
                "MASTER_ADDR is not set: expected the name of the machine of rank 0, as torchrun sets it \
                 (with srun: export MASTER_ADDR=$(scontrol show hostnames $SLURM_NODELIST | head -1))"
            );
        };
        Ok(Some(Launch {
            rank,
            n_ranks,
            local_rank: variables
                .number("LOCAL_RANK", "SLURM_LOCALID")?
                .unwrap_or(0),
            n_local_ranks,
            host,
            port: variables
                .number("MASTER_PORT", "MASTER_PORT")?
                .unwrap_or(DEFAULT_PORT),
            launcher_keeps_store: variable("TORCHELASTIC_USE_AGENT_STORE")
                .is_some_and(|value| value.eq_ignore_ascii_case("true")),
            attempt: variables
                .number("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")?
                .unwrap_or(0),
        }))
    }
}

/// The port that PyTorch takes if none is given.
const DEFAULT_PORT: u16 = 29_500;

/// Reads variables of the environment.
struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    /// The number in the first of two variables that is set.
    fn number<N: FromStr>(&self, name: &str, or: &str) -> Result<Option<N>> {
        let set = [name, or]
            .into_iter()
            .find_map(|name| Some((name, self.0(name)?)));
        let Some((name, value)) = set else {
            return Ok(None);
        };
        match value.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => bail!("{name} is {value:?}, expected a whole number"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(variables: &[(&str, &str)]) -> Result<Option<Launch>> {
        Launch::from_variables(&|name| {
            let set = variables.iter().find(|(known, _)| *known == name);
            set.map(|(_, value)| (*value).to_string())
        })
    }

    #[test]
    fn one_process_is_no_launch() {
        assert_eq!(launch(&[]).unwrap(), None);
        assert_eq!(launch(&[("WORLD_SIZE", "1"), ("RANK", "0")]).unwrap(), None);
        assert_eq!(launch(&[("SLURM_NTASKS", "1")]).unwrap(), None);
    }

    #[test]
    fn torchrun_and_slurm_are_understood() {
        let torchrun = launch(&[
            ("RANK", "5"),
            ("WORLD_SIZE", "8"),
            ("LOCAL_RANK", "1"),
            ("LOCAL_WORLD_SIZE", "4"),
            ("MASTER_ADDR", "localhost"),
            ("MASTER_PORT", "1234"),
            ("TORCHELASTIC_USE_AGENT_STORE", "True"),
            ("TORCHELASTIC_RESTART_COUNT", "2"),
        ]);
        let wanted = Launch {
            rank: 5,
            n_ranks: 8,
            local_rank: 1,
            n_local_ranks: 4,
            host: "localhost".to_string(),
            port: 1234,
            launcher_keeps_store: true,
            attempt: 2,
        };
        assert_eq!(torchrun.unwrap().unwrap(), wanted);
        let slurm = launch(&[
            ("SLURM_PROCID", "1"),
            ("SLURM_NTASKS", "2"),
            ("SLURM_LOCALID", "1"),
            ("MASTER_ADDR", "node7"),
        ]);
        let slurm = slurm.unwrap().unwrap();
        assert_eq!((slurm.rank, slurm.n_ranks, slurm.local_rank), (1, 2, 1));
        assert_eq!((slurm.port, slurm.launcher_keeps_store), (29_500, false));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (variables, wanted) in [
            (&[("WORLD_SIZE", "two")][..], "WORLD_SIZE is \"two\""),
            (&[("WORLD_SIZE", "2")], "RANK is not"),
            (
                &[("WORLD_SIZE", "2"), ("RANK", "2")],
                "less than WORLD_SIZE",
            ),
            (
                &[
                    ("WORLD_SIZE", "2"),
                    ("RANK", "1"),
                    ("LOCAL_WORLD_SIZE", "0"),
                ],
                "LOCAL_WORLD_SIZE or SLURM_NTASKS_PER_NODE is 0",
            ),
            (
                &[("WORLD_SIZE", "2"), ("RANK", "1")],
                "MASTER_ADDR is not set",
            ),
        ] {
            let error = launch(variables).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
