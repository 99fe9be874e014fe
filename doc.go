// Package sequin is a Go client for Sequin streams: those of package server and of Sequin v0.3. A stream keeps keyed messages,
// behind an HTTP API. A named consumer delivers them to programs, each for a limited time, its lease. A program acks each
// message that it has handled. For the sinks of Sequin v0.6.0 and later see [Client.SubscribeSink] and [DecodeChange].
//
// A [Client] has the complete request/response API. Most programs use what is built on it: a [Publisher] sends messages in
// batches, a [Subscriber] receives them on a channel, and Handle, HandleBatch and Pipe of a Subscriber call a function for
// them. Package server is a Sequin server to embed in a program, and package sequintest is that server for tests.
//
// The smallest publisher uses a client from NewClient(Config{}), which reads $SEQUIN_URL and $SEQUIN_TOKEN:
//
//	pub, err := client.NewPublisher("orders", sequin.PublisherConfig{})
//	if err != nil {
//		return err
//	}
//	if err := pub.Send(ctx, "orders.1", `{"qty":4}`); err != nil { // buffers; waits only while the buffer is full
//		return err
//	}
//	return pub.Close(context.WithoutCancel(ctx)) // sends what is buffered, also after ctx has ended
//
// The smallest subscriber runs until ctx ends:
//
//	sub, err := client.Subscribe(ctx, "orders", "billing", sequin.SubscriberConfig{})
//	if err != nil {
//		return err
//	}
//	for d := range sub.Deliveries() {
//		if charge(ctx, d.Key, d.Data) == nil {
//			d.Ack() // queued; acks are sent together
//		} else {
//			d.NackAfter(time.Second) // Nack brings back what always fails at once, thousands of times a second
//		}
//	}
//	return errors.Join(sub.Err(), sub.Close(context.WithoutCancel(ctx))) // waits for the last acks
//
// A handler replaces the loop. Returning nil acks the delivery; an error nacks it, after a delay that grows:
//
//	return sub.Handle(ctx, sequin.HandlerConfig{Workers: 8}, func(ctx context.Context, d sequin.Delivery) error {
//		return charge(ctx, d.Key, d.Data)
//	})
//
// # Guarantees in short
//
// The [guarantees] in full name the limits of each promise, and the tests that hold it.
//
// Delivery: sends and receives are at least once. A send whose answer is lost is repeated; the embedded server stores it
// once, another server may store it twice. A message is delivered again until the server has confirmed its ack, so a
// handler must accept a message that it has seen before.
//
// Ordering: a Publisher stores the messages of one key in the order in which they were sent. Messages of different keys
// travel in parallel, and those of different Publishers have no order. A Subscriber delivers the versions of a key in order.
//
// Leases: a lease lasts for the consumer's ack_wait. After [Delivery.Deadline], when an ack may no longer reach the server in
// time, Ack returns [ErrLeaseExpired] and sends nothing, and the message is delivered again. The server of package server
// extends the leases of running handlers, and [Delivery.Extend] extends one. Elsewhere choose a long enough ack_wait.
//
// Closing: [Publisher.Close] sends what is buffered; an [*UnsentError] lists what it could not send. [Subscriber.Close]
// stops receiving, closes the channel, returns undelivered messages to the server and waits for the deliveries that the
// program still has; a [*DrainError] counts those that were left unsettled. The end of Subscribe's ctx does the same.
//
// Errors: every answer other than success is an [*APIError], which errors.Is matches with [ErrNotFound], [ErrValidation]
// and the like. One with Foreign set comes from a proxy or a firewall and matches none of them. A failed dial is
// [ErrUnreachable]; a request that may have been carried out is [ErrOutcomeUnknown].
// Publishers and Subscribers retry what is transient, and report it in their Stats and to Config.Logger.
//
// Goroutines: a Client starts none. Publishers and Subscribers start what they need, and leave none behind when they are
// closed; an idle Publisher has none. A panic in a callback is recovered and logged. Config structs are copied, and
// everything exported is safe for concurrent use unless its comment says otherwise.
//
// [guarantees]: https://github.com/sequin-go/sequin/blob/main/docs/guarantees.md
package sequin
