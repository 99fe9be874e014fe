// Package otelsequin makes traces and metrics of OpenTelemetry from what a [sequin.Client] does.
//
//	client, err := sequin.NewClient(sequin.Config{Hooks: otelsequin.Hooks(otelsequin.Options{
//		Propagator: propagation.TraceContext{},
//	})})
//
// # Traces
//
// The names and attributes of spans are those of the semantic conventions for messaging. With the stream orders they are:
//
//   - "create orders", of kind producer: a message was passed to a Publisher or to SendMessages. It has no duration to speak of. Only
//     with a Propagator, which writes it into the headers of the message.
//   - "send orders", "receive orders", "settle orders" and "extend orders": an attempt at a request, with the number of its
//     messages. Those of a Publisher and a Subscriber are the roots of traces of their own, because a request serves many messages.
//     A receive that returns nothing has no span, and one that returns messages has it from the end of its answer on, so that the
//     request itself is not part of it.
//   - "process orders", of kind consumer: a call of a handler of Handle, HandleBatch or Pipe, once for each of its deliveries.
//     With a Propagator it is a child of the message's "create orders", to which it also links: a message is one trace, over the
//     server, also if it is redelivered. What the handler does is part of that trace; in a batch it is that of the last delivery.
//
// The other requests, such as "get stream", have spans of these names. A server without headers gets no headers, and its messages
// have no "create" in their traces. See [sequin.Hooks].
//
// # Metrics
//
// By the conventions: messaging.client.operation.duration (without receives that return nothing), messaging.client.sent.messages,
// messaging.client.consumed.messages and messaging.process.duration. And in addition:
//
//   - sequin.client.settled.messages: acks and nacks that have a result
//   - sequin.client.batches: the batches of Publishers, by the reason for which they left
//   - sequin.client.lag: how old the oldest message of the latest receive was, by the clocks of both machines
//   - sequin.client.states: how many Publishers and Subscribers are in a state such as suspended, by state
//   - sequin.client.lost.leases and sequin.client.expired.messages
//
// [Gauges] adds what is buffered and in flight, and for how long.
package otelsequin
