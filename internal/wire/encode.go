package wire

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/sequin-go/sequin/internal/jscan"
)

// The body of a send is {"messages":[{"key":…,"data":…},…]}. A message may have "headers" too. encoding/json is not used,
// because the size of a message must be known before it is encoded: a batch is limited by its encoded bytes.
const (
	sendHead, sendTail = `{"messages":[`, `]}`
	messageHead        = `{"key":`
	messageMiddle      = `,"data":`
	messageTail        = `},` // AppendSendTail overwrites the comma of the last message
	headersHead        = `,"headers":{`
)

// The size of a send's body is SendOverhead, plus MessageOverhead and the sizes of key and data as JSON strings for each
// message.
const (
	SendOverhead    = len(sendHead) + len(sendTail) - 1 // without the comma of the last message
	MessageOverhead = len(messageHead) + len(messageMiddle) + len(messageTail)
)

// AppendSendHead begins the body of a send.
func AppendSendHead(b []byte) []byte { return append(b, sendHead...) }

// AppendMessage appends one message to the body of a send. size is that of the message there, or 0 if it is not known. A
// message of which nothing has to be escaped is as large as its strings, and is not searched again.
func AppendMessage(b []byte, key, data string, headers map[string]string, size int) []byte {
	b = append(b, messageHead...)
	if size == MessageOverhead+jscan.VerbatimSize(key)+jscan.VerbatimSize(data) {
		b = jscan.AppendVerbatim(b, key)
		b = append(b, messageMiddle...)
		b = jscan.AppendVerbatim(b, data)
		return append(b, messageTail...)
	}
	b = jscan.AppendString(b, key)
	b = append(b, messageMiddle...)
	b = jscan.AppendString(b, data)
	if len(headers) > 0 {
		b = appendHeaders(b, headers)
	}
	return append(b, messageTail...)
}

// appendHeaders appends at least one header. They are sorted by name: a map has no order, and the bodies of two sends with one
// Idempotency-Key must be the same.
func appendHeaders(b []byte, headers map[string]string) []byte {
	b = append(b, headersHead...)
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		b = jscan.AppendString(b, name)
		b = append(b, ':')
		b = jscan.AppendString(b, headers[name])
		b = append(b, ',')
	}
	b[len(b)-1] = '}'
	return b
}

// HeadersSize is the size that headers add to a message in the body of a send. ok is false if one of them is not valid UTF-8 or
// contains a NUL.
func HeadersSize(headers map[string]string) (size int, ok bool) {
	if len(headers) == 0 {
		return 0, true
	}
	size = len(headersHead)
	for name, value := range headers {
		n, nameOK := jscan.StringSize(name)
		v, valueOK := jscan.StringSize(value)
		if !nameOK || !valueOK {
			return 0, false
		}
		size += n + v + len(`:,`) // the last comma becomes the closing brace
	}
	return size, true
}

// AppendSendTail ends the body of a send, which must have at least one message.
func AppendSendTail(b []byte) []byte { return append(b[:len(b)-1], sendTail...) }

// AppendEmptySend appends the body of a send without messages. White space makes it size bytes long, if that is longer.
func AppendEmptySend(b []byte, size int) []byte {
	b = append(b, sendHead...)
	for range size - len(sendHead) - len(sendTail) {
		b = append(b, ' ')
	}
	return append(b, sendTail...)
}

// AppendReceive appends the body of a receive. A waitFor of 0 is left out; fractions of a millisecond are dropped. With bare
// the answer has messages without the strings that a bare Decoder leaves empty.
func AppendReceive(b []byte, batchSize int, waitFor time.Duration, bare bool) []byte {
	b = append(b, `{"batch_size":`...)
	b = strconv.AppendInt(b, int64(batchSize), 10)
	if waitFor > 0 {
		b = append(b, `,"wait_for":`...)
		b = strconv.AppendInt(b, waitFor.Milliseconds(), 10)
	}
	if bare {
		b = append(b, `,"bare":true`...)
	}
	return append(b, '}')
}

// AppendSettleHead begins the body of an ack or nack.
func AppendSettleHead(b []byte) []byte { return append(b, `{"ack_ids":[`...) }

// AppendAckID appends one ack id. It escapes nothing, because an ack id is a checked UUID or comes from the server.
func AppendAckID(b []byte, id string) []byte {
	b = append(b, '"')
	b = append(b, id...)
	return append(b, `",`...)
}

// AppendExtendTail ends the body of an extension, which begins as that of an ack does.
func AppendExtendTail(b []byte, ackWait time.Duration) []byte {
	b = append(b[:len(b)-1], `],"ack_wait_ms":`...)
	return append(strconv.AppendInt(b, ackWait.Milliseconds(), 10), '}')
}

// AppendEndReceive appends the body of a request that ends the receive with an X-Request-Id, which needs no escapes.
func AppendEndReceive(b []byte, requestID string) []byte {
	return append(append(append(b, `{"request_id":"`...), requestID...), `"}`...)
}

// AppendSettleTail ends the body of an ack or nack, which must have at least one ack id. undelivered reports that no
// program has seen these messages. A server that knows the member then does not count their deliveries. A delay of 0 is left
// out; a fraction of a millisecond is rounded up.
func AppendSettleTail(b []byte, undelivered bool, delay time.Duration) []byte {
	b = append(b[:len(b)-1], ']')
	if delay > 0 {
		b = append(b, `,"delay_ms":`...)
		b = strconv.AppendInt(b, int64((delay+time.Millisecond-1)/time.Millisecond), 10)
	}
	if undelivered {
		b = append(b, `,"undelivered":true`...)
	}
	return append(b, '}')
}
