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

// plain is net/http with ready-made bodies, over one connection, undecoded: what no client over HTTP can pass.
type plain struct {
	url  string
	http *http.Client
	buf  []byte
}

func newPlain(url string) *plain {
	t := &http.Transport{DialContext: (&net.Dialer{}).DialContext, MaxConnsPerHost: 1, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10}
	return &plain{url: url, http: &http.Client{Transport: t}, buf: make([]byte, 64<<10)}
}

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

// publishPlain posts n messages, in bodies as large as the Publisher's.
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

// batchOf is how many messages the Publisher's default of 1 MiB puts into a request.
func batchOf(size int) int { return min(1000, (1<<20)/(size+60)) }

// consumePlain receives and acks n messages, one request after the other, as many at once as a receive may have.
func consumePlain(ctx context.Context, url string, n, _ int) (time.Duration, error) {
	return consumePlainBy(ctx, url, n, 1000)
}

// defaultAsk is what a receive of a Subscriber with the default config asks for at most: a third of MaxInFlight, rounded
// up, as each of two pollers has a part and the program one.
const defaultAsk = 334

// consumePlainSmall receives and acks as many at once as the Subscriber does by default: what these requests cost.
func consumePlainSmall(ctx context.Context, url string, n, _ int) (time.Duration, error) {
	return consumePlainBy(ctx, url, n, defaultAsk)
}

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
		if err := p.post(ctx, "/api/streams/stream/consumers/consumer/receive", receive); err != nil {
			return 0, err
		}
		if err := p.post(ctx, "/api/streams/stream/consumers/consumer/ack", acks); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}
