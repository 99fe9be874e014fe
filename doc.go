// Package sequin is a Go client for Sequin streams: keyed messages on Postgres behind an HTTP API, sent in batches,
// received by named consumers under a lease, and acked one by one.
//
// It has the complete request/response API ([Client]), a [Publisher] that buffers sends into batches, and a [Subscriber]
// that receives into a channel of deliveries:
//
//	client, err := sequin.NewClient(sequin.Config{}) // $SEQUIN_URL, else http://localhost:7376
//
//	pub, err := client.NewPublisher("orders", sequin.PublisherConfig{})
//	err = pub.Send(ctx, "orders.cus_a.1", `{"qty":4}`) // buffered; waits only when the buffer is full
//	err = pub.Close(ctx)                               // sends what is pending, and lists what it could not
//
//	sub, err := client.Subscribe(ctx, "orders", "billing", sequin.SubscriberConfig{})
//	for d := range sub.Deliveries() {
//		if err := charge(d.Key, d.Data); err != nil {
//			d.Nack() // available again, at once
//			continue
//		}
//		d.Ack() // queued; travels with others
//	}
//	err = sub.Err()      // nil after Close or a cancelled ctx
//	err = sub.Close(ctx) // awaits the last acks, and gives back what was not handed out
//
// Package server is a Sequin server to embed, package sequintest that server for tests, with faults and virtual time.
//
// # Delivery
//
// Sends are at least once. An attempt whose answer is lost is repeated with the same bytes and the same
// Idempotency-Key. A server that knows that header (the embedded one) stores it once. Elsewhere, and where a Publisher had
// to cut the batch anew (RetryFor was over for a part of it, or a lease of Pipe; five bare 500s in a row), the repeat may
// duplicate a message on a stream that appends, and on one that keeps one message per key it may put back an older
// version, which another producer has replaced in the meantime.
//
// Receives are at least once. After AckSync has returned nil, or OnAckError was not told of an ack, the message is not
// delivered to that consumer again. After anything else assume that it will be: a crash, a lease that ended, an ack
// whose answer was lost. Handlers must be able to see a message twice.
//
// A settle (ack or nack) is repeated only when the server surely did not act on it: the connection was refused, or broke
// before the whole request was written, or the answer was 429 or 503. On the 2024 server an ack id stays the same over
// redeliveries and new versions, so that a repeated or late settle could remove what another worker holds. For the same
// reason nothing is sent after a delivery's Deadline.
// What is in doubt ends as [ErrOutcomeUnknown], and the lease decides: a duplicate at worst, never a loss. Acks on a
// stream known to append are the exception: there a repeated ack can hit nothing newer.
//
// # Ordering
//
// A key always travels in the same lane of a Publisher, one request at a time, so that the versions of a key are stored
// in the order of their Sends, over retries and splits too. Different keys travel in parallel, in no order. Two
// Publishers, or a request that outlives its client's time-out in a proxy, know nothing of each other. And a server that
// answers five bare 500s in a row to a batch that it has stored gets the batch's halves once more, older versions first.
//
// Deliveries of one receive come by Seq, except around a lease that ends in the buffer. Versions of one key come in
// order. The 2024 server stores a batch in reverse, so that different keys of one batch come in reverse there.
//
// # Leases
//
// A message is leased for the consumer's ack_wait, counted by the server from the hand-out. [Delivery.Deadline] ends the
// lease a margin earlier (a quarter of ack_wait, at most 2 s), the time that a settle gets to travel. What a program does
// not take from the channel in time is given back before that. Leases cannot be extended: choose an ack_wait of several
// times what the slowest message takes, with the wait in the buffer; the price is how long a crash keeps messages away
// from other workers. 30 s, the default, suits handlers of up to a few seconds.
//
// A server that tells how long it waited before it answered (the Sequin-Waited-Ms header of the embedded one) lets a
// Subscriber wait at it for SubscriberConfig.WaitFor. Otherwise all of the wait must be counted against the lease: it is
// cut to a third of ack_wait, and to polling where that is under 500 ms. A consumer's ack_wait may be changed; a running
// Subscriber notices within a minute, and until then may hand out leases that a shorter ack_wait has ended already.
//
// # Handlers
//
// [Subscriber.Handle], [Subscriber.HandleBatch] and [Subscriber.Pipe] own the Subscriber and settle by what a function
// returns: nil acks, an error or a panic nacks after a delay that grows with the failures of that message, within its
// lease, and Pipe acks once the server has what came of the delivery. While everything fails, one message at a time is
// tried, at backoff pace, and the rest is left to others. With a [DeadLetter] a message that keeps failing goes to another
// stream, and is acked only when it is there; [Client.Redrive] brings it back. Failures are counted by process.
//
// Nacks that are held back and dead letters on their way take up room: together at most half of MaxInFlight. Messages
// beyond that, because there is no DeadLetter or its stream is away, come again before newer ones, and are tried at backoff
// pace. Newer ones get what room they leave: with MaxInFlight of them there is none.
//
// # Closing
//
// [Publisher.Close] refuses new messages, sends what is pending until its ctx ends, and returns what was not sent,
// message by message. [Subscriber.Close], like the end of the ctx given to Subscribe, stops receiving, closes the channel,
// nacks at once what was not handed out, and waits for the server's word on that, and for what was handed out: until
// that is settled, until the leases end, or until Close's ctx or DrainTimeout does. The last settles then get a margin
// more. What was left in the end is counted by a [DrainError]. Both may be called at any time, repeatedly, beside
// anything, but not by OnFailure or OnAckError. Afterwards no goroutine, timer or request is left, but for an OnFailure
// that was running when the ctx of Publisher.Close ended.
//
// Two windows remain at a stop, in which messages are left to the end of their leases and nobody can tell. One is an
// answer that the server writes at the very moment at which a long poll is cut. The embedded server gives back at once
// what it had not written yet. Measured over loopback: of 400 messages sent at the very moment of a stop 108 were in it,
// of 1,000 sent half a millisecond later none; and none of 1,200 at a server that does not wait, where a Subscriber
// polls. The other is a receive that does not wait, or whose answer has begun to arrive, and takes longer than another
// 2 s: it is cut then.
//
// # Errors
//
// Every answer other than success is an [*APIError], also with a body of HTML or none; errors.Is answers for its status:
// [ErrNotFound], [ErrValidation], [ErrUnauthorized], [ErrTooLarge], [ErrStreamFull], [ErrRateLimited]. No connection is
// [ErrUnreachable]. Bad arguments have errors of their own and cost no request. What is transient ends neither a
// Publisher nor a Subscriber: they back off, and say so in their Stats and to Config.Logger.
//
// # Goroutines
//
// A Client starts none. A Publisher has one for each request in flight, at most one a lane, and at most one more for each
// of these: to ask once whether the stream takes a key twice in a batch, when that first matters; to look whether a
// stream that refused everything (401, 403, 404 and the like) is back, with a timer alone between two looks; and to call
// OnFailure. It has none while it has nothing to do. A Subscriber has one, one for each receive that runs, one for each
// settle request in flight (two of acks, of nacks, and of what is given back unseen, at most), and one about every minute
// that reads the consumer again. Handle and Pipe start Workers, HandleBatch one more, and all wait for them: what remains
// is counted by [ErrHandlersRunning]. Each call of OnError, OnAckError and OnFailure has one, so that it may panic, which
// is logged, or end its goroutine, as a test's FailNow does. Config structs are copied; everything exported is safe for
// concurrent use unless its comment says otherwise.
package sequin
