package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/sequin-go/sequin"
)

// order is the body of a request.
type order struct {
	ID  string `json:"id"`
	Qty int    `json:"qty"`
}

// maxBody is the most bytes of a body. An order takes about a hundred.
const maxBody = 64 << 10

// handler answers the requests. Its methods run concurrently.
type handler struct {
	pub  *sequin.Publisher
	wait time.Duration
}

func newHandler(pub *sequin.Publisher, wait time.Duration) http.Handler {
	h := &handler{pub, wait}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", h.create)
	mux.HandleFunc("GET /healthz", h.health)
	return mux
}

// create stores an order. 202 means that it is stored. After a 503 the client does not know whether it is, and sends it again: the
// messages of one order have the same key, so that a consumer that has seen one recognizes the other.
func (h *handler) create(w http.ResponseWriter, r *http.Request) {
	var o order
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		err = json.Unmarshal(body, &o) // a Decoder would not see what follows the order
	}
	if err != nil {
		http.Error(w, fmt.Sprintf("the body is no order: %v", err), http.StatusBadRequest)
		return
	}
	m, err := sequin.EncodeJSON("orders."+o.ID, o)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.wait)
	defer cancel()
	switch err := h.pub.SendSync(ctx, m); {
	case err == nil:
		w.WriteHeader(http.StatusAccepted)
	case errors.Is(err, sequin.ErrInvalidKey), errors.Is(err, sequin.ErrInvalidData):
		http.Error(w, fmt.Sprintf("the order cannot be stored: %v", err), http.StatusBadRequest)
	default:
		w.Header().Set("Retry-After", "1")
		http.Error(w, "the order may not be stored: send it again", http.StatusServiceUnavailable)
	}
}

// health tells a load balancer to send requests elsewhere while the stream is refused or the Publisher is full.
func (h *handler) health(w http.ResponseWriter, _ *http.Request) {
	if s := h.pub.Stats(); s.Refusal != nil {
		http.Error(w, s.Refusal.Error(), http.StatusServiceUnavailable)
	}
}
