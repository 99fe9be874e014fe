package feed

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin"
)

// maxBytes is the size of the lines from which on a batch takes no more of them. It is the default of the Publisher.
const maxBytes = 1 << 20

// maxLine limits the memory for a line. No message can be that long: escaped as JSON a character takes up to six bytes.
const maxLine = 8 * sequin.MaxRequestBytes

// longText is how much of a longer line is listed.
const longText = 1 << 10

var errLongLine = fmt.Errorf("the line is longer than any message: it has more than %d bytes, of which the first %d are listed", maxLine, longText)

// bom begins files of some programs on Windows. It is not a part of the first line.
var bom = []byte("\uFEFF")

// scanner cuts the input into batches.
type scanner struct {
	in    *bufio.Reader
	live  *live // what in reads; nil for a file
	lines int
	pos   Position
	begun []byte // of a line whose end a live input has not got yet
}

// newScanner returns a scanner of an input. When that is live, the end of reading ends it.
func newScanner(reading context.Context, in io.Reader, isLive bool, start Position, lines int) *scanner {
	s := &scanner{lines: lines, pos: start}
	if isLive {
		s.live = newLive(reading, in)
		in = s.live
	}
	s.in = bufio.NewReaderSize(in, 256<<10)
	return s
}

// batch is a part of the file.
type batch struct {
	start, end Position
	raw        []byte // the lines with their ends
	long       *line  // follows raw when it is longer than maxLine, with the beginning of its text

	// parsed is closed when these are known.
	parsed   chan struct{}
	key      string // for idempotency
	messages []sequin.Message
	lines    []line   // of the messages
	keys     []uint64 // their hashes

	refused []Refused
	sent    int64
	ended   bool
}

// line is where a message comes from.
type line struct {
	number, offset int64
	text           []byte
}

// next returns the next batch, or the error of the input. Both are set when the input ends with a batch. A line that is too long
// ends a batch, and so does a pause of a live input.
func (s *scanner) next() (*batch, error) {
	b := &batch{start: s.pos, parsed: make(chan struct{})}
	if s.live != nil {
		s.live.due = nil
	}
	for n := 0; n < s.lines && len(b.raw) < maxBytes && b.long == nil; n++ {
		read, err := s.readLine(b)
		if read > 0 {
			s.pos.Offset += read
			s.pos.Line++
		}
		if n == 0 && s.live != nil {
			s.live.due = time.After(linger)
		}
		if err == errPause {
			break
		}
		if err != nil {
			b.end = s.pos
			if s.pos == b.start || err != io.EOF && err != errStop {
				return nil, err // the rest of a batch that cannot be read is read by a later run
			}
			return b, err
		}
	}
	b.end = s.pos
	return b, nil
}

// readLine appends a line to the batch, and returns how many bytes it has. A live input that pauses or stops within a line leaves
// its beginning for the next call.
func (s *scanner) readLine(b *batch) (read int64, err error) {
	began := len(b.raw)
	b.raw, s.begun = append(b.raw, s.begun...), nil
	read = int64(len(b.raw) - began)
	for {
		part, err := s.in.ReadSlice('\n')
		read += int64(len(part))
		if b.long == nil {
			b.raw = append(b.raw, part...)
		}
		if b.long == nil && len(b.raw)-began > maxLine {
			b.long = &line{s.pos.Line + 1, s.pos.Offset, bytes.Clone(b.raw[began:][:longText])}
			b.raw = bytes.Clone(b.raw[:began]) // gives the memory of the line back
		}
		switch {
		case err == bufio.ErrBufferFull, err == errPause && b.long != nil:
		case err == errPause, err == errStop && b.long == nil:
			s.begun = bytes.Clone(b.raw[began:])
			b.raw = b.raw[:began]
			return 0, err
		default:
			return read, err
		}
	}
}

var seed = maphash.MakeSeed()

// parse makes the messages.
func (b *batch) parse(id string, parse func([]byte) (sequin.Message, error)) {
	defer close(b.parsed)
	b.key = idempotencyKey(id, b.start.Offset, b.raw)
	number, offset := b.start.Line, b.start.Offset
	for text := range bytes.Lines(b.raw) {
		number++
		l := line{number, offset, bytes.TrimSpace(text)}
		if offset == 0 {
			l.text = bytes.TrimSpace(bytes.TrimPrefix(text, bom))
		}
		offset += int64(len(text))
		if len(l.text) == 0 {
			continue
		}
		m, err := parse(l.text)
		if err != nil {
			b.refuse(l, err)
			continue
		}
		b.messages, b.lines = append(b.messages, m), append(b.lines, l)
		b.keys = append(b.keys, maphash.String(seed, m.Key))
	}
	if b.long != nil {
		b.refuse(*b.long, errLongLine)
	}
}

func (b *batch) refuse(l line, err error) {
	b.refused = append(b.refused, Refused{l.number, l.offset, string(l.text), err})
}

// idempotencyKey returns the key of a batch. It has the form of a UUID.
func idempotencyKey(id string, offset int64, raw []byte) string {
	h := sha256.New()
	_, _ = io.WriteString(h, id+"\n") // a hash never fails
	_ = binary.Write(h, binary.BigEndian, offset)
	_, _ = h.Write(raw)
	key, _ := uuid.FromBytes(h.Sum(nil)[:16])
	return key.String()
}
