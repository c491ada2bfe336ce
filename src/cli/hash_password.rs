//! `pgwake hash-password`: turns a password into the verifier that configuration and Postgres keep of it.
//!
//! The password comes from the terminal without echo, or as one line from standard input; never from an
//! argument, which others could see. It changes nothing anywhere. Called by `cli`.

use std::io::{self, BufRead, IsTerminal, Write};

use zeroize::Zeroizing;

use crate::auth::{ITERATIONS_MAX, verifier_for};
use crate::ids::Secret;

/// Longest password: what fits into an authentication message with its header and NUL.
const PASSWORD_BYTES_MAX: usize = 65_535 - 5;

/// Why no verifier was made.
#[derive(Debug, thiserror::Error)]
pub enum HashPasswordError {
    /// Terminal or standard input could not be read, or standard output not be written.
    #[error("cannot read the password or write the verifier: {0}")]
    Io(#[from] io::Error),
    /// An empty line, or none.
    #[error("the password is empty")]
    Empty,
    /// No client could send it.
    #[error("the password is longer than {PASSWORD_BYTES_MAX} bytes")]
    TooLong,
    /// It would end there in a client's message.
    #[error("the password has a NUL in it, which no client can send")]
    Nul,
    /// The second entry was another one.
    #[error("the two passwords are not the same")]
    Differ,
    /// Nobody would compute that many.
    #[error("the number of iterations is not between 1 and {ITERATIONS_MAX}")]
    Iterations,
}

/// Asks for a password and writes its verifier to `out`, and the statement that gives it to `role` in Postgres:
/// without a role, with a gap to fill in.
///
/// # Errors
/// [`HashPasswordError`]; nothing was written then.
pub fn run(role: Option<&str>, iterations: u32, out: &mut impl Write) -> Result<(), HashPasswordError> {
    if !(1..=ITERATIONS_MAX).contains(&iterations) {
        return Err(HashPasswordError::Iterations);
    }
    let stdin = io::stdin().lock();
    let password = if stdin.is_terminal() {
        ask_twice()?
    } else {
        read_line(stdin)?
    };
    let verifier = Zeroizing::new(verifier_for(&password, iterations).to_text());
    out.write_all(answer(&verifier, role).as_bytes())?;
    Ok(out.flush()?)
}

fn ask_twice() -> Result<Secret, HashPasswordError> {
    let first = Secret::new(rpassword::prompt_password("Password: ")?);
    let first = checked(first)?;
    let again = Secret::new(rpassword::prompt_password("The same again: ")?);
    if again != first {
        return Err(HashPasswordError::Differ);
    }
    Ok(first)
}

/// The first line, without its end.
fn read_line(input: impl BufRead) -> Result<Secret, HashPasswordError> {
    // Room for the longest line and for one byte that tells that it is too long: the text is never moved.
    let room = PASSWORD_BYTES_MAX + "\r\n".len() + 1;
    let mut line = Zeroizing::new(String::with_capacity(room));
    input.take(room as u64).read_line(&mut line)?;
    let password = line.strip_suffix('\n').unwrap_or(&line);
    let password = password.strip_suffix('\r').unwrap_or(password);
    checked(Secret::new(password))
}

fn checked(password: Secret) -> Result<Secret, HashPasswordError> {
    match password.reveal() {
        "" => Err(HashPasswordError::Empty),
        text if text.len() > PASSWORD_BYTES_MAX => Err(HashPasswordError::TooLong),
        text if text.contains('\0') => Err(HashPasswordError::Nul),
        _ => Ok(password),
    }
}

/// Verifier and statement. A verifier has no quotes; a role's name may have them.
fn answer(verifier: &str, role: Option<&str>) -> Zeroizing<String> {
    let role = match role {
        Some(role) => format!("\"{}\"", role.replace('"', "\"\"")),
        None => "<role>".to_owned(),
    };
    Zeroizing::new(format!("{verifier}\nALTER ROLE {role} PASSWORD '{verifier}';\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_read_without_its_end() {
        let read = |input: &str| read_line(input.as_bytes()).unwrap();
        assert_eq!(read("secret\nmore\n").reveal(), "secret");
        assert_eq!(read("secret\r\n").reveal(), "secret");
        assert_eq!(read(" with spaces ").reveal(), " with spaces ");
    }

    #[test]
    fn what_cannot_be_a_password_is_refused() {
        let read = |input: &[u8]| read_line(input).unwrap_err();
        assert!(matches!(read(b""), HashPasswordError::Empty));
        assert!(matches!(read(b"\nsecret\n"), HashPasswordError::Empty));
        assert!(matches!(read(b"\xff\n"), HashPasswordError::Io(_)));
        assert!(matches!(read(b"sec\0ret\n"), HashPasswordError::Nul));
        let longest = "x".repeat(PASSWORD_BYTES_MAX);
        assert!(read_line(format!("{longest}\r\n").as_bytes()).is_ok());
        assert!(matches!(
            read(format!("{longest}x\n").as_bytes()),
            HashPasswordError::TooLong
        ));
    }

    #[test]
    fn the_statement_quotes_the_role() {
        assert_eq!(
            *answer("SCRAM…", Some("o\"hara")),
            "SCRAM…\nALTER ROLE \"o\"\"hara\" PASSWORD 'SCRAM…';\n"
        );
        assert!(answer("SCRAM…", None).ends_with("ALTER ROLE <role> PASSWORD 'SCRAM…';\n"));
    }

    #[test]
    fn absurd_iterations_are_refused_before_a_password_is_read() {
        for iterations in [0, ITERATIONS_MAX + 1] {
            let found = run(None, iterations, &mut Vec::new());
            assert!(matches!(found, Err(HashPasswordError::Iterations)));
        }
    }
}
