package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
)

// plain posts prepared bodies with net/http over one connection, and decodes nothing. No HTTP client can be faster.
type plain struct {
	url  string
	http *http.Client
	buf  []byte
}

func newPlain(url string) *plain {
	t := &http.Transport{DialContext: (&net.Dialer{}).DialContext, MaxConnsPerHost: 1, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10}
	return &plain{url: url, http: &http.Client{Transport: t}, buf: make([]byte, 64<<10)}
}

// post makes one request and reads its answer.
func (p *plain) post(ctx context.Context, path string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := p.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, p.buf); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("POST %s: %s", path, resp.Status)
	}
	return nil
}

// sendBody is the body of a send of n messages.
func sendBody(n, size int) []byte {
	var b strings.Builder
	b.WriteString(`{"messages":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"key":%q,"data":%q}`, key(i), payload(size))
	}
	b.WriteString(`]}`)
	return []byte(b.String())
}

// publishPlain posts n messages, in bodies as large as those of a Publisher.
func publishPlain(ctx context.Context, url string, n, size int) (time.Duration, error) {
	p := newPlain(url)
	defer p.http.CloseIdleConnections()
	batch := batchOf(size)
	body := sendBody(batch, size)
	began := time.Now()
	for sent := 0; sent < n; sent += batch {
		if err := p.post(ctx, "/api/streams/stream/messages", body); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

// batchOf is how many messages of a size fit into a request of 1 MiB, the default of a Publisher.
func batchOf(size int) int { return min(1000, (1<<20)/(size+60)) }

// consumePlain receives and acks n messages, one request after the other, with the largest number per receive.
func consumePlain(ctx context.Context, url string, n, _ int) (time.Duration, error) {
	return consumePlainBy(ctx, url+consumerOfStream, n, 1000)
}

const consumerOfStream = "/api/streams/stream/consumers/consumer"

// consumePlainBy receives and acks n messages of a consumer or a sink.
func consumePlainBy(ctx context.Context, url string, n, batch int) (time.Duration, error) {
	p := newPlain(url)
	defer p.http.CloseIdleConnections()
	ids := make([]string, batch)
	for i := range ids {
		ids[i] = `"` + uuid.NewString() + `"`
	}
	acks := []byte(`{"ack_ids":[` + strings.Join(ids, ",") + `]}`)
	receive := fmt.Appendf(nil, `{"batch_size":%d}`, batch)
	began := time.Now()
	for got := 0; got < n; got += batch {
		if err := p.post(ctx, "/receive", receive); err != nil {
			return 0, err
		}
		if err := p.post(ctx, "/ack", acks); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}
