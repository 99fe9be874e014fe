package server

import (
	"errors"
	"time"

	"github.com/sequin-go/sequin/server/internal/store"
)

// secondsLayout is the layout of the times of streams and consumers.
const secondsLayout = "2006-01-02T15:04:05Z"

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
}

// optionsStreamJSON is a stream with its options.
type optionsStreamJSON struct {
	streamJSON
	OneMessagePerKey  bool `json:"one_message_per_key"`
	ProcessUnmodified bool `json:"process_unmodified"`
	MaxStorageGB      *int `json:"max_storage_gb"`
	RetainUpTo        *int `json:"retain_up_to"`
	RetainAtLeast     *int `json:"retain_at_least"`
}

// streamJSON returns the JSON of a stream.
func (c *call) streamJSON(i store.StreamInfo) any {
	out := streamJSON{
		ID: i.ID, Name: i.Name, AccountID: c.srv.store.ID(),
		Stats:      streamStats{i.Consumers, i.Messages, c.srv.dialect.storageSize(i.Bytes)},
		InsertedAt: seconds(i.InsertedAt), UpdatedAt: seconds(i.UpdatedAt),
	}
	if !c.srv.dialect.streamOptions {
		return out
	}
	return optionsStreamJSON{
		streamJSON: out, OneMessagePerKey: i.OneMessagePerKey, ProcessUnmodified: i.ProcessUnmodified,
		MaxStorageGB: orNull(int(i.MaxBytes / c.srv.gigabyte)), RetainUpTo: orNull(i.RetainUpTo), RetainAtLeast: orNull(i.RetainAtLeast),
	}
}

func seconds(t time.Time) string { return t.UTC().Format(secondsLayout) }

func orNull(n int) *int {
	if n == 0 {
		return nil
	}
	return &n
}

func (c *call) listStreams() error {
	all, err := store.StreamInfos(c.ctx(), c.srv.store)
	if err != nil {
		return err
	}
	c.srv.dialect.sortStreams(all)
	out := list[any]{[]any{}}
	for _, i := range all {
		out.Data = append(out.Data, c.streamJSON(i))
	}
	return c.ok(out)
}

func (c *call) createStream() error {
	p, err := c.params()
	if err != nil {
		return err
	}
	o, err := c.srv.dialect.readStream(p, c.srv.gigabyte)
	if err != nil {
		return err
	}
	s, err := c.srv.createStream(c.ctx(), o)
	if errors.Is(err, store.ErrNameTaken) {
		return c.srv.dialect.streamTaken
	}
	if err != nil {
		return err
	}
	return changed(c.okStream(s))
}

// readStream reads the params of a new stream.
func readStream(p params, gigabyte int64) (store.StreamOptions, error) {
	f := form{params: p}
	o := store.StreamOptions{Name: f.name()}
	var gigabytes int
	o.OneMessagePerKey = f.flag("one_message_per_key")
	o.ProcessUnmodified = f.flag("process_unmodified")
	f.limit("max_storage_gb", &gigabytes, true)
	f.limit("retain_up_to", &o.RetainUpTo, true)
	f.limit("retain_at_least", &o.RetainAtLeast, true)
	if o.RetainUpTo > 0 && o.RetainAtLeast > o.RetainUpTo {
		f.reject("retain_at_least", "must be less than or equal to retain_up_to")
	}
	o.MaxBytes = int64(gigabytes) * gigabyte
	return o, f.err()
}

func (c *call) getStream() error {
	s, err := c.findStream()
	if err != nil {
		return err
	}
	return c.okStream(s)
}

// okStream answers with a stream.
func (c *call) okStream(s store.Stream) error {
	info, err := s.Info(c.ctx())
	if err != nil {
		return err
	}
	return c.ok(c.streamJSON(info))
}

// updateStream refuses: a stream cannot be changed.
func (c *call) updateStream() error { return c.srv.dialect.updateStream }

type deletedJSON struct {
	ID      string `json:"id"`
	Deleted bool   `json:"deleted"`
}

func (c *call) deleteStream() error {
	s, err := c.findStream()
	if err != nil {
		return err
	}
	if err := s.Delete(c.ctx()); err != nil {
		return err
	}
	c.srv.traffic.forgetStream(s.ID())
	return c.ok(deletedJSON{s.ID(), true})
}
