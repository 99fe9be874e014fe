package main

import (
	"bytes"
	"context"
	stdjson "encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"time"

	"github.com/bytedance/sonic"
	jsonv2 "github.com/go-json-experiment/json"
	goccy "github.com/goccy/go-json"
	segmentio "github.com/segmentio/encoding/json"

	"github.com/sequin-go/sequin"
)

// codec writes the body of a send and reads the answer to a receive.
type codec struct {
	name   string
	encode func([]sequin.Message) error
	decode func(answer []byte) (messages int, err error)
}

// The body of a send and the answer to a receive, for libraries that use structs.
type (
	sendJSON struct {
		Messages []messageJSON `json:"messages"`
	}
	messageJSON struct {
		Key  string `json:"key"`
		Data string `json:"data"`
	}
	receivedJSON struct {
		Data []deliveryJSON `json:"data"`
	}
	deliveryJSON struct {
		AckID        string `json:"ack_id"`
		DeliverCount int    `json:"deliver_count"`
		Message      struct {
			Key        string    `json:"key"`
			StreamID   string    `json:"stream_id"`
			DataHash   string    `json:"data_hash"`
			Data       string    `json:"data"`
			Seq        int64     `json:"seq"`
			InsertedAt time.Time `json:"inserted_at"`
			UpdatedAt  time.Time `json:"updated_at"`
		} `json:"message"`
	}
)

// byStructs is a codec of a library that uses structs.
func byStructs(name string, marshal func(any) ([]byte, error), unmarshal func([]byte, any) error) codec {
	return codec{name, func(messages []sequin.Message) error {
		body := sendJSON{make([]messageJSON, len(messages))}
		for i, m := range messages {
			body.Messages[i] = messageJSON{m.Key, m.Data}
		}
		_, err := marshal(body)
		return err
	}, func(answer []byte) (int, error) {
		var r receivedJSON
		err := unmarshal(answer, &r)
		return len(r.Data), err
	}}
}

// byClient is the library's own code, with a whole call except the network: checks, request, headers, answer.
func byClient() (codec, error) {
	var answer []byte
	client, err := sequin.NewClient(sequin.Config{BaseURL: "http://localhost", HTTPClient: &http.Client{Transport: replies(func() []byte { return answer })}})
	return codec{"own code, a whole call", func(messages []sequin.Message) error {
		answer = []byte(`{"data":{"published":1000}}`)
		_, err := client.SendMessages(context.Background(), "stream", messages)
		return err
	}, func(a []byte) (int, error) {
		answer = a
		got, err := client.ReceiveMessages(context.Background(), "stream", "consumer", sequin.ReceiveOptions{BatchSize: sequin.MaxBatch})
		return len(got), err
	}}, err
}

// replies answers every request at once.
type replies func() []byte

func (r replies) RoundTrip(req *http.Request) (*http.Response, error) {
	_, _ = io.Copy(io.Discard, req.Body)
	answer := r()
	return &http.Response{StatusCode: http.StatusOK, ContentLength: int64(len(answer)), Body: io.NopCloser(bytes.NewReader(answer)), Header: http.Header{}}, nil
}

// measureJSON measures what each codec costs per message.
func measureJSON(_ context.Context, opts options, all *results) error {
	own, err := byClient()
	if err != nil {
		return err
	}
	codecs := []codec{
		own,
		byStructs("encoding/json", stdjson.Marshal, stdjson.Unmarshal),
		byStructs("encoding/json/v2", func(v any) ([]byte, error) { return jsonv2.Marshal(v) }, func(b []byte, v any) error { return jsonv2.Unmarshal(b, v) }),
		byStructs("goccy/go-json", goccy.Marshal, goccy.Unmarshal),
		byStructs("segmentio/encoding", segmentio.Marshal, segmentio.Unmarshal),
		byStructs("bytedance/sonic", sonic.ConfigStd.Marshal, sonic.ConfigStd.Unmarshal),
	}
	messages := make([]sequin.Message, sequin.MaxBatch)
	for i := range messages {
		messages[i] = sequin.Message{Key: key(i), Data: fmt.Sprintf(`{"order":%d,"customer":"cus_%d","items":["a","b","c"],"note":"leave it at the neighbour's door"}`, i, i)}
	}
	answer, err := receiveAnswer(messages)
	if err != nil {
		return err
	}
	encode := func(c codec) error { return c.encode(messages) }
	decode := func(c codec) error {
		n, err := c.decode(answer)
		if err == nil && n != len(messages) {
			err = fmt.Errorf("%s read %d messages", c.name, n)
		}
		return err
	}
	all.JSON = make([]codecCost, len(codecs))
	var encodings, decodings = make([][]time.Duration, len(codecs)), make([][]time.Duration, len(codecs))
	for range opts.rounds {
		for i, c := range codecs {
			all.JSON[i].Codec = c.name
			for _, side := range []struct {
				run    func(codec) error
				took   *[]time.Duration
				allocs *float64
			}{{encode, &encodings[i], &all.JSON[i].EncodeAllocs}, {decode, &decodings[i], &all.JSON[i].DecodeAllocs}} {
				took, allocs, err := perMessage(func() error { return side.run(c) })
				if err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
				*side.took, *side.allocs = append(*side.took, took), allocs
			}
		}
	}
	var rows [][]string
	for i := range all.JSON {
		x := &all.JSON[i]
		x.Encode, x.Decode = median(encodings[i]), median(decodings[i])
		rows = append(rows, []string{x.Codec, x.Encode.String(), fmt.Sprintf("%.2f", x.EncodeAllocs), x.Decode.String(), fmt.Sprintf("%.2f", x.DecodeAllocs)})
	}
	table("JSON of 1,000 messages of 100 bytes, per message", []string{"by", "body of a send", "allocs", "answer to a receive", "allocs"}, rows)
	return nil
}

// perMessage runs f, which processes a batch, until minMeasured has passed, and returns the cost per message.
func perMessage(f func() error) (took time.Duration, allocs float64, err error) {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began, n := time.Now(), 0
	for time.Since(began) < minMeasured {
		if err := f(); err != nil {
			return 0, 0, err
		}
		n += sequin.MaxBatch
	}
	took = time.Since(began) / time.Duration(n)
	runtime.ReadMemStats(&after)
	return took, float64(after.Mallocs-before.Mallocs) / float64(n), nil
}

// receiveAnswer returns the answer of a server to a receive of these messages.
func receiveAnswer(messages []sequin.Message) ([]byte, error) {
	r := receivedJSON{make([]deliveryJSON, len(messages))}
	for i, m := range messages {
		d := &r.Data[i]
		d.AckID, d.DeliverCount = fmt.Sprintf("3f2a7c10-0000-4000-8000-%012d", i), 1
		d.Message.Key, d.Message.Data, d.Message.Seq = m.Key, m.Data, int64(i+1)
		d.Message.StreamID, d.Message.DataHash = "0f6b1c9e-7a55-4c5e-9a39-0a5d6c2f7d11", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
		d.Message.InsertedAt = time.Date(2026, 11, 23, 12, 0, 0, 123456000, time.UTC).Add(time.Duration(i) * time.Microsecond)
		d.Message.UpdatedAt = d.Message.InsertedAt
	}
	return stdjson.Marshal(r)
}
