//! The console: an operator's client that speaks Postgres' protocol, by the simple and the extended protocol.
//!
//! Tables and commands are PgBouncer's, so that habits and exporters go on working, and some of pgwake's own. The session
//! room lets the operator prove who it is and hands over a socket; from there on pgwire speaks, here. `tables` has what is
//! shown, `commands` understands statements. What is ordered goes the way of all orders (`order`).

mod commands;
mod rows;
mod tables;

use std::{os::unix::net::UnixStream as StdUnixStream, sync::Arc};

use async_trait::async_trait;
use futures_util::stream;
use pgwire::api::{
    ClientInfo, PgWireServerHandlers, Type,
    auth::{StartupHandler, noop::NoopStartupHandler},
    portal::{Format, Portal},
    query::{ExtendedQueryHandler, SimpleQueryHandler},
    results::{
        DataRowEncoder, DescribePortalResponse, DescribeStatementResponse, FieldInfo, QueryResponse,
        Response, Tag,
    },
    stmt::{NoopQueryParser, StoredStatement},
};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use tokio::{net::UnixStream, sync::mpsc};

use super::{View, access::Right};
use crate::config::OperatorRight;
use crate::error::ClientError;
use crate::session::Visit;
use commands::{Command, Misunderstood};
use tables::{Cell, Table};

/// Serves operators' clients until nobody can come any more.
pub(super) async fn serve(mut visits: mpsc::Receiver<Visit>, view: Arc<View>) {
    while let Some(visit) = visits.recv().await {
        let console = Console {
            view: view.clone(),
            right: match visit.right {
                OperatorRight::Read => Right::Read,
                OperatorRight::Operate => Right::Operate,
            },
            who: format!("{}, console of {}", visit.peer, visit.role),
            parser: Arc::new(NoopQueryParser::new()),
        };
        // Ends with its socket; the session room ends that.
        tokio::spawn(converse(visit.socket, console));
    }
}

async fn converse(socket: StdUnixStream, console: Console) {
    let socket = socket
        .set_nonblocking(true)
        .and_then(|()| UnixStream::from_std(socket));
    let ended = match socket {
        Ok(socket) => pgwire::tokio::process_socket_unix(socket, Speakers(Arc::new(console))).await,
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an operator's console has ended");
    }
}

/// One operator's console.
struct Console {
    view: Arc<View>,
    right: Right,
    /// For the log and the audit log.
    who: String,
    parser: Arc<NoopQueryParser>,
}

/// What a statement comes to.
enum Outcome {
    Table(Table),
    Done(&'static str),
}

impl Console {
    async fn run(&self, statement: &str) -> PgWireResult<Outcome> {
        match Command::parse(statement).map_err(|error| told(&error))? {
            Command::Show(table) => Ok(Outcome::Table(self.view.table(table))),
            Command::Nothing(tag) => Ok(Outcome::Done(tag)),
            Command::Orders(tag, wanted) => {
                if self.right < Right::Operate {
                    return Err(told(&Misunderstood::MayOnlyLook));
                }
                for order in self.view.orders(wanted) {
                    let done = self.view.carry_out(&order, &self.who).await;
                    done.map_err(|error| told(&error))?;
                }
                Ok(Outcome::Done(tag))
            }
        }
    }

    /// The columns of what a statement answers with; none where that is no table.
    fn columns(statement: &str, format: &Format) -> PgWireResult<Vec<FieldInfo>> {
        Ok(match Command::parse(statement).map_err(|error| told(&error))? {
            Command::Show(table) => fields(table.columns(), format),
            Command::Nothing(_) | Command::Orders(..) => Vec::new(),
        })
    }
}

fn told(error: &dyn ClientError) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new(
        "ERROR".to_owned(),
        error.sqlstate().0.to_owned(),
        error.message().into_owned(),
    )))
}

fn fields(columns: &[(&'static str, Type)], format: &Format) -> Vec<FieldInfo> {
    let field = |(index, (name, kind)): (usize, &(&str, Type))| {
        FieldInfo::new(
            (*name).to_owned(),
            None,
            None,
            kind.clone(),
            format.format_for(index),
        )
    };
    columns.iter().enumerate().map(field).collect()
}

fn response(outcome: Outcome, format: &Format) -> PgWireResult<Response> {
    let table = match outcome {
        Outcome::Done(tag) => return Ok(Response::Execution(Tag::new(tag))),
        Outcome::Table(table) => table,
    };
    let fields = Arc::new(fields(table.columns, format));
    let mut encoder = DataRowEncoder::new(fields.clone());
    let mut rows = Vec::with_capacity(table.rows.len());
    for row in &table.rows {
        for cell in row {
            match cell {
                Cell::Text(text) => encoder.encode_field(text)?,
                Cell::Number(number) => encoder.encode_field(number)?,
                Cell::Nothing => encoder.encode_field(&None::<String>)?,
            }
        }
        rows.push(Ok(encoder.take_row()));
    }
    let mut response = QueryResponse::new(fields, stream::iter(rows));
    response.set_command_tag("SHOW");
    Ok(Response::Query(response))
}

#[async_trait]
impl SimpleQueryHandler for Console {
    async fn do_query<C>(&self, _client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let mut responses = Vec::new();
        for statement in query.split(';').filter(|statement| !statement.trim().is_empty()) {
            responses.push(response(self.run(statement).await?, &Format::UnifiedText)?);
        }
        Ok(responses)
    }
}

#[async_trait]
impl ExtendedQueryHandler for Console {
    type Statement = String;
    type QueryParser = NoopQueryParser;

    fn query_parser(&self) -> Arc<NoopQueryParser> {
        self.parser.clone()
    }

    async fn do_query<C>(
        &self,
        _client: &mut C,
        portal: &Portal<String>,
        _max_rows: usize,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let outcome = self.run(&portal.statement.statement).await?;
        response(outcome, &portal.result_column_format)
    }

    async fn do_describe_statement<C>(
        &self,
        _client: &mut C,
        statement: &StoredStatement<String>,
    ) -> PgWireResult<DescribeStatementResponse>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let columns = Self::columns(&statement.statement, &Format::UnifiedText)?;
        Ok(DescribeStatementResponse::new(Vec::new(), columns))
    }

    async fn do_describe_portal<C>(
        &self,
        _client: &mut C,
        portal: &Portal<String>,
    ) -> PgWireResult<DescribePortalResponse>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let columns = Self::columns(&portal.statement.statement, &portal.result_column_format)?;
        Ok(DescribePortalResponse::new(columns))
    }
}

/// Whoever gets here has proved who it is.
#[async_trait]
impl NoopStartupHandler for Console {}

/// One console in all its parts.
struct Speakers(Arc<Console>);

impl PgWireServerHandlers for Speakers {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        self.0.clone()
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        self.0.clone()
    }

    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        self.0.clone()
    }
}
