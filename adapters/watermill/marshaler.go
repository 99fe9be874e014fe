package watermillsequin

import (
	"context"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/envelope"
)

// Marshaler makes the message that is stored for a message of Watermill. Marshal may be called concurrently.
type Marshaler interface {
	Marshal(topic string, msg *message.Message) (sequin.Message, error)
}

// Unmarshaler makes the message of Watermill for a delivery. A message that it cannot read is treated as one that no retry can
// help: see sequin.Permanent. Unmarshal may be called concurrently.
type Unmarshaler interface {
	Unmarshal(topic string, d sequin.Delivery) (*message.Message, error)
}

// EnvelopeMarshaler is the default Marshaler and Unmarshaler. It writes the JSON of package envelope.
type EnvelopeMarshaler struct {
	// Key returns the key of a message. Messages of a key are delivered one after the other. Default: a new UUID for each.
	//
	// The UUID of the message is a bad key in a stream that keeps one message per key: the stream delivers the same bytes under
	// the same key once.
	Key func(topic string, msg *message.Message) string
}

// Marshal returns an error that wraps envelope.ErrInvalid if the UUID or the metadata is not UTF-8.
func (e EnvelopeMarshaler) Marshal(topic string, msg *message.Message) (sequin.Message, error) {
	data, err := envelope.Envelope{ID: msg.UUID, Metadata: msg.Metadata, Payload: msg.Payload}.Encode()
	if err != nil {
		return sequin.Message{}, err
	}
	if e.Key != nil {
		return sequin.Message{Key: e.Key(topic, msg), Data: data}, nil
	}
	return sequin.Message{Key: uuid.NewString(), Data: data}, nil
}

// Unmarshal makes data that is no envelope the payload of a message whose UUID is key@seq. It returns an error that wraps
// envelope.ErrInvalid for an envelope that it cannot read.
func (EnvelopeMarshaler) Unmarshal(_ string, d sequin.Delivery) (*message.Message, error) {
	e, ok, err := envelope.Decode(d.Data)
	if err != nil {
		return nil, err
	}
	if !ok {
		e.ID = fmt.Sprintf("%s@%d", d.Key, d.Seq)
	}
	msg := message.NewMessage(e.ID, e.Payload)
	if e.Metadata != nil {
		msg.Metadata = e.Metadata
	}
	return msg, nil
}

type deliveryKey struct{}

// messageContext is the context of a message. It has the delivery without the copy that context.WithValue would make.
type messageContext struct {
	context.Context
	delivery sequin.Delivery
}

func (c *messageContext) Value(key any) any {
	if key == (deliveryKey{}) {
		return c.delivery
	}
	return c.Context.Value(key)
}

// DeliveryFromCtx returns the delivery of a received message from its context. The adapter settles it when the message is acked
// or nacked.
func DeliveryFromCtx(ctx context.Context) (d sequin.Delivery, ok bool) {
	d, ok = ctx.Value(deliveryKey{}).(sequin.Delivery)
	return d, ok
}
