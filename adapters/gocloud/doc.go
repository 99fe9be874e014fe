// Package sequinpubsub is a driver of the Go CDK's gocloud.dev/pubsub for Sequin streams. A topic is a stream, and a subscription
// is a consumer. Both exist: the driver creates neither.
//
//	topic, err := pubsub.OpenTopic(ctx, "sequin://orders")
//	subscription, err := pubsub.OpenSubscription(ctx, "sequin://orders?consumer=billing")
//
// The server is $SEQUIN_URL; see URLOpener. OpenTopic and OpenSubscription use a client of the program. Opening makes no request:
// what is missing is reported by the first Send or Receive, with the code NotFound.
//
// The text of a Sequin message holds body and metadata as JSON that any language reads; package envelope of sequin describes it.
// A text that other programs have sent is the body.
//
// # Delivery
//
// Delivery is at least once. Send returns when the server has stored the message. A message that is not acked within the
// consumer's ack_wait is received again. Nack makes it available at once. Ack and Nack are sent in the background, and Shutdown
// waits until the server has confirmed them. Those that come too late or twice, or whose outcome is not known, are no errors:
// the message may be received again.
//
// While the server is unavailable Send and Receive wait, as long as their ctx allows. A Subscription ends for good only when its
// consumer does not exist or the token is refused.
//
// # As
//
// The driver exposes these types for As:
//
//   - Topic: *sequin.Client, *sequin.Publisher
//   - Subscription: *sequin.Client
//   - Message: sequin.Delivery
//   - Message.BeforeSend: *sequin.Message, which may be changed
//   - Message.AfterSend: sequin.Message
//   - Error: what errors.As finds, such as *sequin.APIError
package sequinpubsub
