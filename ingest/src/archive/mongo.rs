//! The store in MongoDB: one document a message, in the collection `raw_ticks`.
//!
//! The exact time of receipt is RFC 3339 text with nine digits. In ISO 8601's basic form, which sorts
//! as time does, and with the id behind it, it is the document's `place`: indexed, alone and behind
//! source and symbol, and what pages are read by. As a BSON date, which counts milliseconds, it is
//! for the TTL index.
//!
//! The collection is a plain one. A time-series collection has no unique index, and takes no upsert
//! ([limitations], [secondary indexes]): what is delivered again after a crash, at most a consumer's
//! 8,192 messages, would be there twice, and every reader would have to know it.
//!
//! [limitations]: https://www.mongodb.com/docs/manual/core/timeseries/timeseries-limitations/
//! [secondary indexes]: https://www.mongodb.com/docs/manual/core/timeseries/timeseries-secondary-index/

use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use mongodb::{
    Client, Collection, Database, IndexModel,
    bson::{self, Binary, Bson, Document, doc, spec::BinarySubtype},
    error::{Error, ErrorKind},
    options::{Acknowledgment, ClientOptions, ConnectionString, IndexOptions, WriteConcern},
};
use schemas::rfc3339_nanos;
use tokio::{task::AbortHandle, time::sleep};
use tracing::{info, warn};

use super::{Order, Place, RawRecord, RawStore, Selection, StoreError};

const COLLECTION: &str = "raw_ticks";
/// The fields of the exact time, and of the place in the order of what is read.
const EXACT_TIME: &str = "received_at_rfc3339";
const PLACE: &str = "place";
/// The driver would look for a server for 30 s before it says that there is none.
const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// When it is tried again to give places.
const PLACE_AGAIN: Duration = Duration::from_secs(60);
/// `DuplicateKey` among MongoDB's error codes.
const DUPLICATE_KEY: i32 = 11_000;

/// The raw store in MongoDB.
pub(super) struct MongoStore {
    raw_ticks: Collection<Document>,
    placing: Option<AbortHandle>,
}

/// Whether it is an address that the driver takes; otherwise why not, without the password.
pub(super) fn check_url(url: &str) -> Result<(), String> {
    match ConnectionString::parse(url) {
        Ok(_) => Ok(()),
        // The driver quotes what it cannot read, and that may be a part of the password.
        Err(_) if url.contains('@') => Err("not a MongoDB address; in the user name and the \
                                            password, special characters are percent-encoded"
            .to_owned()),
        Err(error) => Err(format!("not a MongoDB address: {error}")),
    }
}

impl MongoStore {
    /// Connects, and makes the collection and its indexes where they are not there. The server
    /// deletes records older than `max_age`. What an older version has archived is given its places
    /// in the background.
    pub(super) async fn open(
        url: &str,
        database: &str,
        max_age: Option<Duration>,
    ) -> Result<Self, StoreError> {
        let database = connect(url, database).await.map_err(StoreError::mongodb)?;
        let raw_ticks = database.collection(COLLECTION);
        let indexes = [doc! { "source": 1, "symbol": 1, PLACE: 1 }, doc! { PLACE: 1 }]
            .map(|keys| IndexModel::builder().keys(keys).build());
        raw_ticks.create_indexes(indexes).await.map_err(StoreError::mongodb)?;
        expire(&database, &raw_ticks, max_age).await.map_err(StoreError::mongodb)?;
        let placing = tokio::spawn(give_places(raw_ticks.clone())).abort_handle();
        Ok(Self { raw_ticks, placing: Some(placing) })
    }

    /// Connects, to read what is there.
    pub(super) async fn open_to_read(url: &str, database: &str) -> Result<Self, StoreError> {
        let database = connect(url, database).await.map_err(StoreError::mongodb)?;
        Ok(Self { raw_ticks: database.collection(COLLECTION), placing: None })
    }
}

#[async_trait]
impl RawStore for MongoStore {
    /// An unordered upsert by `_id` that changes nothing of what is there, in its shortest form:
    /// an insert, whose duplicates are no errors and do not keep the rest out.
    async fn store(&self, records: &[RawRecord]) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        match self.raw_ticks.insert_many(records.iter().map(document)).ordered(false).await {
            Err(error) if !is_all_duplicates(&error) => Err(StoreError::mongodb(error)),
            _ => Ok(()),
        }
    }

    async fn get(&self, id: &str) -> Result<Option<RawRecord>, StoreError> {
        let found =
            self.raw_ticks.find_one(doc! { "_id": id }).await.map_err(StoreError::mongodb)?;
        found.as_ref().map(record).transpose()
    }

    async fn page(
        &self,
        selection: &Selection,
        order: Order,
        after: Option<&Place>,
        limit: u32,
    ) -> Result<Vec<RawRecord>, StoreError> {
        let direction = match order {
            Order::OldestFirst => 1,
            Order::NewestFirst => -1,
        };
        let found = self
            .raw_ticks
            .find(filter(selection, order, after))
            .sort(doc! { PLACE: direction })
            .limit(limit.into());
        let found = found.await.map_err(StoreError::mongodb)?;
        let found: Vec<Document> = found.try_collect().await.map_err(StoreError::mongodb)?;
        found.iter().map(record).collect()
    }

    async fn count(&self) -> Result<u64, StoreError> {
        self.raw_ticks.count_documents(doc! {}).await.map_err(StoreError::mongodb)
    }
}

impl Drop for MongoStore {
    fn drop(&mut self) {
        if let Some(placing) = &self.placing {
            placing.abort();
        }
    }
}

/// Documents of older versions have no place, so no page would have them: they get one.
async fn give_places(raw_ticks: Collection<Document>) {
    loop {
        match give_each_a_place(&raw_ticks).await {
            Ok(0) => return,
            Ok(documents) => return info!(documents, "older documents are listed now"),
            Err(error) => warn!(%error, "older documents are not listed; trying again in a minute"),
        }
        sleep(PLACE_AGAIN).await;
    }
}

/// How many have got one. One whose time cannot be read is left as it is.
async fn give_each_a_place(raw_ticks: &Collection<Document>) -> Result<u64, Error> {
    let wanted = raw_ticks.find(doc! { PLACE: { "$exists": false } });
    let mut found = wanted.projection(doc! { EXACT_TIME: 1 }).await?;
    let mut given = 0;
    while let Some(document) = found.try_next().await? {
        let time = document.get_str(EXACT_TIME).ok().and_then(|time| time.parse().ok());
        let (Some(time), Ok(id)) = (time, document.get_str("_id")) else {
            warn!(?document, "a document without a time that can be read is not listed");
            continue;
        };
        let set = doc! { "$set": { PLACE: place(time, id) } };
        raw_ticks.update_one(doc! { "_id": id }, set).await?;
        given += 1;
    }
    Ok(given)
}

async fn connect(url: &str, database: &str) -> Result<Database, Error> {
    let mut options = ClientOptions::parse(url).await?;
    options.app_name.get_or_insert_with(|| "lizards-archive".to_owned());
    options.server_selection_timeout.get_or_insert(SERVER_SELECTION_TIMEOUT);
    // What is acknowledged upstream must survive the loss of a member and of its memory. Whoever
    // writes another concern into the address has decided otherwise.
    options.write_concern.get_or_insert_with(|| {
        WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build()
    });
    Ok(Client::with_options(options)?.database(database))
}

/// Brings the TTL index to the configuration. The server refuses to create one that is there with
/// another age, so it is changed in place.
async fn expire(
    database: &Database,
    raw_ticks: &Collection<Document>,
    max_age: Option<Duration>,
) -> Result<(), Error> {
    let by_time = doc! { "received_at": 1 };
    let indexes: Vec<IndexModel> = raw_ticks.list_indexes().await?.try_collect().await?;
    let existing = indexes
        .into_iter()
        .find(|index| index.keys.keys().eq(by_time.keys()))
        .map(|index| index.options.unwrap_or_default());
    match (existing, max_age) {
        (None, None) => {}
        (None, Some(max_age)) => {
            let options = IndexOptions::builder().expire_after(max_age).build();
            let index = IndexModel::builder().keys(by_time).options(options).build();
            raw_ticks.create_index(index).await?;
        }
        (Some(index), Some(max_age)) if index.expire_after == Some(max_age) => {}
        (Some(_), Some(max_age)) => {
            // The configuration allows what fits 31 bits of seconds.
            let seconds = i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX);
            let index = doc! { "keyPattern": by_time, "expireAfterSeconds": seconds };
            database.run_command(doc! { "collMod": COLLECTION, "index": index }).await?;
        }
        (Some(index), None) => raw_ticks.drop_index(index.name.unwrap_or_default()).await?,
    }
    Ok(())
}

/// What a page is looked for with. A time alone sorts before every place of that time.
fn filter(selection: &Selection, order: Order, after: Option<&Place>) -> Document {
    let Selection { source, symbol, from, to } = selection;
    let mut all = Vec::new();
    all.extend(source.as_deref().map(|source| doc! { "source": source }));
    all.extend(symbol.as_deref().map(|symbol| doc! { "symbol": symbol }));
    all.extend(from.map(|from| doc! { PLACE: { "$gte": basic(from) } }));
    all.extend(to.map(|to| doc! { PLACE: { "$lt": basic(to) } }));
    let behind = match order {
        Order::OldestFirst => "$gt",
        Order::NewestFirst => "$lt",
    };
    all.extend(after.map(|after| doc! { PLACE: { behind: place(after.received_at, &after.id) } }));
    if all.is_empty() {
        doc! {}
    } else {
        doc! { "$and": all }
    }
}

fn place(received_at: Timestamp, id: &str) -> String {
    format!("{} {id}", basic(received_at))
}

/// ISO 8601 without its separators, with nanoseconds.
fn basic(time: Timestamp) -> String {
    rfc3339_nanos(time).replace(['-', ':'], "")
}

/// Whether nothing went wrong but that some records were there already.
fn is_all_duplicates(error: &Error) -> bool {
    let ErrorKind::InsertMany(failure) = error.kind.as_ref() else { return false };
    let (None, Some(errors)) = (&failure.write_concern_error, &failure.write_errors) else {
        return false;
    };
    errors.iter().all(|error| error.code == DUPLICATE_KEY)
}

fn document(record: &RawRecord) -> Document {
    let body = Binary { subtype: BinarySubtype::Generic, bytes: record.body.to_vec() };
    doc! {
        "_id": record.id.as_str(),
        "source": record.source.as_deref(),
        "symbol": record.symbol.as_deref(),
        "received_at": bson::DateTime::from_millis(record.received_at.as_millisecond()),
        EXACT_TIME: rfc3339_nanos(record.received_at),
        PLACE: place(record.received_at, &record.id),
        "content_type": record.content_type.as_deref(),
        "format": record.format.as_deref(),
        "columns": record.columns.as_deref(),
        "retry_of": record.retry_of.as_deref(),
        "retry_event": record.retry_event.as_deref(),
        "subject": record.subject.as_str(),
        "raw_seq": record.raw_seq.cast_signed(),
        "body": body,
    }
}

/// Reads back what [`document`] wrote.
fn record(document: &Document) -> Result<RawRecord, StoreError> {
    let text = |name| document.get_str(name).map(str::to_owned).map_err(|error| wrong(name, error));
    let optional = |name| match document.get(name) {
        None | Some(Bson::Null) => Ok(None),
        Some(_) => text(name).map(Some),
    };
    let received_at: Timestamp =
        text(EXACT_TIME)?.parse().map_err(|error| wrong(EXACT_TIME, error))?;
    // A number that fits 32 bits may have been made an Int32 by whoever copied the collection.
    let raw_seq = match document.get("raw_seq") {
        Some(Bson::Int64(sequence)) => *sequence,
        Some(Bson::Int32(sequence)) => i64::from(*sequence),
        other => return Err(wrong("raw_seq", format!("{other:?} is not an integer"))),
    };
    let body =
        document.get_binary_generic("body").map_err(|error| wrong("body", error))?.clone().into();
    Ok(RawRecord {
        id: text("_id")?,
        source: optional("source")?,
        symbol: optional("symbol")?,
        received_at,
        content_type: optional("content_type")?,
        format: optional("format")?,
        columns: optional("columns")?,
        retry_of: optional("retry_of")?,
        retry_event: optional("retry_event")?,
        subject: text("subject")?,
        raw_seq: raw_seq.cast_unsigned(),
        body,
    })
}

fn wrong(field: &str, fault: impl std::fmt::Display) -> StoreError {
    StoreError::mongodb(format!("the field {field} of a document in {COLLECTION}: {fault}"))
}
