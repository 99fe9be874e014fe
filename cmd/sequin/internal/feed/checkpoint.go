package feed

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
)

// Source is a file and where it is sent. A checkpoint belongs to one Source.
type Source struct {
	File     string `json:"file"` // its absolute path
	URL      string `json:"url"`
	Stream   string `json:"stream"`
	Template string `json:"key_template"`
}

// Checkpoint says how far a file is sent, so that a later run can go on.
type Checkpoint struct {
	Source
	ID    string   `json:"id"` // random, for the idempotency keys; a file that is sent twice gets another one
	Lines int      `json:"lines_per_batch"`
	At    Position `json:"at"`
	// Since is when At was saved, or when a run ended that may have sent what is behind At.
	Since time.Time `json:"since"`
	// Bytes is the SHA-256 of the first and last bytes before At, which tells whether the file is the same.
	Bytes string `json:"bytes"`
	// Refused is the list of the lines before At that could not be sent.
	Refused List `json:"refused_list"`

	path string
}

// List is a file to which a send adds lines.
type List struct {
	File string `json:"file"` // its absolute path; empty for none
	Size int64  `json:"size"` // of the lines before the position
}

// probe is how many bytes at the beginning and at the end are compared.
const probe = 64 << 10

// ErrChanged means that a file is not the one that the checkpoint is about.
var ErrChanged = errors.New("the file has changed since a part of it was sent")

// ErrDamaged means that a checkpoint cannot be used.
var ErrDamaged = errors.New("the file that keeps it is damaged")

// Resume returns the checkpoint of an earlier run, which is kept in dir, or a new one. lines is used for a new one.
func Resume(dir string, source Source, file io.ReaderAt, lines int) (*Checkpoint, error) {
	c, err := New(dir, source, lines)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, c.path, err)
	}
	now, err := fingerprint(file, c.At.Offset)
	if err != nil {
		return nil, err
	}
	if now != c.Bytes {
		return nil, ErrChanged
	}
	return c, nil
}

// New returns a checkpoint at the beginning of the file.
func New(dir string, source Source, lines int) (*Checkpoint, error) {
	name, err := json.Marshal(source)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(name)
	return &Checkpoint{Source: source, ID: uuid.NewString(), Lines: lines, path: filepath.Join(dir, hex.EncodeToString(sum[:8])+".json")}, nil
}

// Save writes the checkpoint at a position of the file.
func (c *Checkpoint) Save(file io.ReaderAt, at Position) (err error) {
	c.At = at
	if c.Bytes, err = fingerprint(file, at.Offset); err != nil {
		return err
	}
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return cli.ReplaceFile(c.path, append(text, '\n'))
}

// Remove removes the checkpoint of a file that is sent.
func (c *Checkpoint) Remove() error {
	if err := os.Remove(c.path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func fingerprint(file io.ReaderAt, end int64) (string, error) {
	h := sha256.New()
	n := min(end, probe)
	for _, from := range []int64{0, end - n} {
		if _, err := io.Copy(h, io.NewSectionReader(file, from, n)); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
