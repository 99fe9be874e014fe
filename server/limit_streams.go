package server

import (
	"context"
	"net/http"
	"strconv"
	"sync"

	"github.com/sequin-go/sequin/server/internal/store"
)

// creation creates streams one after the other, so that there are never more than the limit. The zero value is ready for
// use.
type creation struct{ mu sync.Mutex }

// createStream creates a stream, unless there are too many.
func (s *Server) createStream(ctx context.Context, o store.StreamOptions) (store.Stream, error) {
	s.creation.mu.Lock()
	defer s.creation.mu.Unlock()
	all, err := s.store.Streams(ctx)
	if err != nil {
		return nil, err
	}
	if len(all) >= s.limits.Streams {
		return nil, tooManyStreams(s.limits.Streams)
	}
	return s.store.CreateStream(ctx, o)
}

func tooManyStreams(limit int) *failure {
	return &failure{
		status:  http.StatusUnprocessableEntity,
		summary: "Too many streams: this server holds at most " + strconv.Itoa(limit) + ". Delete one, or raise the limit of the server",
	}
}
