// Package watermillsequin is a Pub/Sub of Watermill on Sequin streams. A topic is a stream, and a consumer group is a consumer.
//
// A message of Watermill has an id, metadata and a payload. The text of a Sequin message holds them as JSON that any language
// reads; package envelope of sequin describes it. Texts that other programs have sent are delivered as payloads.
//
// Delivery is at least once, and a message is delivered again after a nack, after a delay that grows. Publish returns when the
// server has stored the messages.
//
// # Order
//
// With one Publisher and Subscriber and their defaults, a topic has its order: the Publisher has one lane, and the
// Subscriber has one worker, which asks for one answer at a time. A message that is nacked comes later again. More workers
// (SubscriberConfig.Handler.Workers) handle messages at the same time, in any order. Messages with one key (EnvelopeMarshaler.Key)
// are then handled one after the other, also by several Subscribers of a group.
package watermillsequin

import (
	"fmt"

	"github.com/sequin-go/sequin"
)

// ErrClosed is the error of Publish and Subscribe after Close. It wraps sequin.ErrClosed.
var ErrClosed error = fmt.Errorf("watermillsequin: %w", sequin.ErrClosed)
