package server

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

// pagesStore lists full pages of which the one with the number failing fails.
type (
	pagesStore struct {
		store.Store
		failing int
	}
	pagesStream struct {
		store.Stream
		failing *int
	}
)

func (s *pagesStore) Stream(ctx context.Context, ref string) (store.Stream, error) {
	stream, err := s.Store.Stream(ctx, ref)
	return pagesStream{stream, &s.failing}, err
}

func (s pagesStream) List(context.Context, store.ListQuery) ([]store.Message, error) {
	if *s.failing--; *s.failing < 0 {
		return nil, errors.New("the disk is broken")
	}
	return []store.Message{{Key: "a", Seq: 1, Data: strings.Repeat("x", store.MaxAnswerBytes)}}, nil
}

// TestAListThatFailsBetweenTwoPagesIsCutOff holds that such an answer does not look complete.
func TestAListThatFailsBetweenTwoPagesIsCutOff(t *testing.T) {
	s := New(Config{})
	_, err := s.store.CreateStream(t.Context(), store.StreamOptions{Name: "s"})
	require.NoError(t, err)
	list := func(failing int) *httptest.ResponseRecorder {
		s.store = &pagesStore{s.store, failing}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/streams/s/messages", nil))
		return w
	}
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { list(1) })
	require.GreaterOrEqual(t, list(0).Code, 500)
}
