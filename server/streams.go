package server

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sequin-go/sequin/server/internal/store"
)

// secondsLayout is how streams and consumers show times.
const secondsLayout = "2006-01-02T15:04:05Z"

// emptyTable is the storage that the 2024 server shows for a stream without messages, pageSize what it grows by.
const (
	emptyTable = 163_840
	pageSize   = 8_192
)

type streamStats struct {
	ConsumerCount int   `json:"consumer_count"`
	MessageCount  int   `json:"message_count"`
	StorageSize   int64 `json:"storage_size"`
}

type streamJSON struct {
	ID         string      `json:"id"`
	Name       string      `json:"name"`
	AccountID  string      `json:"account_id"`
	Stats      streamStats `json:"stats"`
	InsertedAt string      `json:"inserted_at"`
	UpdatedAt  string      `json:"updated_at"`
	*streamLimitsJSON
}

// streamLimitsJSON is what newer servers show beside.
type streamLimitsJSON struct {
	OneMessagePerKey  bool `json:"one_message_per_key"`
	ProcessUnmodified bool `json:"process_unmodified"`
	MaxStorageGB      *int `json:"max_storage_gb"`
	RetainUpTo        *int `json:"retain_up_to"`
	RetainAtLeast     *int `json:"retain_at_least"`
}

func (s *Server) streamJSON(i store.StreamInfo) streamJSON {
	out := streamJSON{
		ID: i.ID, Name: i.Name, AccountID: s.accountID,
		Stats:      streamStats{i.Consumers, i.Messages, i.Bytes},
		InsertedAt: seconds(i.InsertedAt), UpdatedAt: seconds(i.UpdatedAt),
	}
	if s.compat == Aug2024 {
		out.Stats.StorageSize = emptyTable + i.Bytes/pageSize*pageSize
		return out
	}
	out.streamLimitsJSON = &streamLimitsJSON{
		i.OneMessagePerKey, i.ProcessUnmodified,
		orNull(int(i.MaxBytes / s.gigabyte)), orNull(i.RetainUpTo), orNull(i.RetainAtLeast),
	}
	return out
}

func seconds(t time.Time) string { return t.UTC().Format(secondsLayout) }

func orNull(n int) *int {
	if n == 0 {
		return nil
	}
	return &n
}

func (c *call) listStreams() error {
	out := list[streamJSON]{[]streamJSON{}}
	for _, s := range c.store.Streams() {
		out.Data = append(out.Data, c.streamJSON(s.Info()))
	}
	if c.compat == Aug2024 {
		// Newest first by a time in whole seconds; within one second the oldest came first.
		slices.Reverse(out.Data)
		slices.SortStableFunc(out.Data, func(a, b streamJSON) int { return strings.Compare(b.InsertedAt, a.InsertedAt) })
	}
	return c.ok(out)
}

func (c *call) createStream() error {
	p, err := c.params()
	if err != nil {
		return err
	}
	f := form{params: p}
	o := store.StreamOptions{Name: f.text("name")}
	if o.Name != "" {
		if text := c.checkName(o.Name); text != "" {
			f.reject("name", text)
		}
	}
	if c.compat != Aug2024 {
		c.streamOptions(&f, &o)
	}
	if err := f.err(); err != nil {
		return err
	}
	s, err := c.store.CreateStream(o)
	if errors.Is(err, store.ErrNameTaken) {
		return invalidField("name", "has already been taken")
	}
	if err != nil {
		return err
	}
	return c.ok(c.streamJSON(s.Info()))
}

func (c *call) streamOptions(f *form, o *store.StreamOptions) {
	var gigabytes int
	o.OneMessagePerKey = f.flag("one_message_per_key")
	o.ProcessUnmodified = f.flag("process_unmodified")
	f.positive("max_storage_gb", &gigabytes, true)
	f.positive("retain_up_to", &o.RetainUpTo, true)
	f.positive("retain_at_least", &o.RetainAtLeast, true)
	if o.RetainUpTo > 0 && o.RetainAtLeast > o.RetainUpTo {
		f.reject("retain_at_least", "must be less than or equal to retain_up_to")
	}
	o.MaxBytes = int64(gigabytes) * c.gigabyte
}

func (c *call) getStream() error {
	s, err := c.store.Stream(c.stream)
	if err != nil {
		return err
	}
	return c.ok(c.streamJSON(s.Info()))
}

type deletedJSON struct {
	ID      string `json:"id"`
	Deleted bool   `json:"deleted"`
}

func (c *call) deleteStream() error {
	s, err := c.store.Stream(c.stream)
	if err != nil {
		return err
	}
	if err := s.Delete(); err != nil {
		return err
	}
	c.replays.Delete(s.ID())
	return c.ok(deletedJSON{s.ID(), true})
}
