// Package postgres is the store of a server on a Postgres database, for server.Config.Store. Any number of replicas use one
// database. A replica may end at any moment; none knows of the others.
//
//	st, err := postgres.Open(ctx, "postgres://sequin@db/sequin", postgres.Options{})
//	srv := server.New(server.Config{Store: st})
//
// # What is stored how
//
// Everything is in one schema, which Open makes. A stream that appends is a table of chunks of up to 1,000 messages, which
// never change. A stream with one message per key has a row for each key. What a consumer has not settled is a state that
// each replica keeps in memory. Each decision about it (messages are leased, acked, nacked, extended) is a row that the
// replicas read and apply. A row lock orders the decisions.
//
// When several replicas serve a consumer, each does what it can without the lock: it reads what the others have decided and the keys
// of the next messages before, and the data of what it has leased afterwards. A settle is stored without a look at the state: whoever
// applies it settles what is on lease at that moment.
//
// # Promises
//
// What is answered is flushed to the disk of Postgres. A transaction holds its row lock for its work only, and not while
// the disk is written: the answer waits for a flush behind it.
//
// The database's clock decides when leases and delays end.
//
// # Sending inside a transaction
//
// An application whose tables are in the same database sends inside its own transactions with Outbox. Its messages are sent
// when the transaction commits, and never when it does not.
//
//	err = postgres.Outbox{}.SendTx(ctx, tx, "orders", []sequin.Message{{Key: "orders.17", Data: `{"state":"placed"}`}})
//	err = tx.Commit(ctx)
//	err = st.Flush(ctx, "orders") // or a replica sends them within 100 ms
//
// # What differs with several replicas
//
// A replica wakes its own waiting receives at once. The receives of other replicas are told by NOTIFY. When that is lost they
// look again within 300 ms. The limit max_waiting and the order of waiting receives hold within a replica.
//
// # Behind a pooler
//
// The URL may lead to a pooler such as PgBouncer, also in its transaction mode, as Open finds out. It then prepares no statement
// by name, keeps no chunks in memory, and does not listen: waiting receives hear of what other replicas send within 300 ms. With a
// ListenURL that leads to the database itself they hear of it at once. An application that sends inside its own transactions
// through a pooler sets up its driver for it: pgx needs default_query_exec_mode=cache_describe in the URL.
//
// The 2024 dialect of the server is not supported: it is for tests of clients and needs the memory store.
package postgres
