package main

import (
	"context"
	"net/http"
)

// network returns the transport of the world, or one with connections for everything that is in flight at once. close frees it.
func (w world) network() (transport http.RoundTripper, close func()) {
	if w.transport != nil {
		return w.transport, func() {}
	}
	own := http.DefaultTransport.(*http.Transport).Clone()
	own.MaxIdleConnsPerHost = 16
	return own, own.CloseIdleConnections
}

// idempotencyKey is the key of the context value that keyed sends.
type idempotencyKey struct{}

// keyed sends the idempotency key of a request's ctx, in place of the random one of the client library.
type keyed struct{ next http.RoundTripper }

func withKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, idempotencyKey{}, key)
}

func (k keyed) RoundTrip(r *http.Request) (*http.Response, error) {
	key, ok := r.Context().Value(idempotencyKey{}).(string)
	if !ok || r.Method != http.MethodPost {
		return k.next.RoundTrip(r)
	}
	r = r.WithContext(r.Context()) // a RoundTripper must not change the request
	r.Header = r.Header.Clone()
	r.Header.Set("Idempotency-Key", key)
	return k.next.RoundTrip(r)
}
