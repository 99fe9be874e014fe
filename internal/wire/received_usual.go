package wire

import "github.com/sequin-go/sequin/internal/jscan"

// usual reads an element into m and t if its members are in the order in which the known servers write them, without white
// space. That takes half of the time of a Scanner, which has to know at each place what the grammar allows. The strings alias text
// or the buffers of d. usual returns the length of the element, or 0 if it is written in another way or is not valid.
func (d *Decoder) usual(text []byte, m *Message, t *texts) (n int) {
	r := reader{text: text}
	if !r.word(`{"ack_id":`) {
		return 0
	}
	t.ackID = r.plain()
	if r.word(`,"deliver_count":`) {
		m.DeliverCount = int(r.digits())
	}
	if !r.word(`,"message":{"key":`) {
		return 0
	}
	t.key = r.plain()
	t.streamID = d.streamID(&r)
	if r.word(`,"data_hash":`) {
		t.dataHash = r.plain()
	}
	size := int64(-1)
	if d.Bare {
		t.streamID, t.dataHash = nil, nil
		if r.word(`,` + SizeMember) {
			size = r.digits()
		}
	}
	if r.word(`,"data":`) {
		t.data = d.usualData(&r, size)
	}
	if r.word(`,"seq":`) {
		m.Seq = r.digits()
	}
	if r.word(`,"inserted_at":`) {
		m.InsertedAt = d.clock.read(r.plain())
	}
	if r.word(`,"updated_at":`) {
		m.UpdatedAt = d.clock.read(r.plain())
	}
	if r.word(`,"headers":`) {
		d.usualHeaders(&r, t)
	}
	if !r.word(`}`) {
		return 0
	}
	if r.word(`,"expired_count":`) {
		m.ExpiredCount = int(r.digits())
	}
	if !r.word(`}`) || r.failed {
		return 0
	}
	return r.at
}

// streamID reads the id of the stream, if it is next. Most messages of an answer are of one stream.
func (d *Decoder) streamID(r *reader) []byte {
	const name = `,"stream_id":`
	mark := r.at
	if len(d.stream) > 0 && r.word(d.stream) {
		return r.text[mark+len(name)+1 : r.at-1]
	}
	if !r.word(name) {
		return nil
	}
	id := r.plain()
	if d.stream = ""; !r.failed {
		d.stream = string(r.text[mark:r.at])
	}
	return id
}

// usualData reads the data of a message, a string or null. A size that is not negative is its number of bytes.
func (d *Decoder) usualData(r *reader, size int64) []byte {
	if data, ok := r.sized(size); ok {
		return data
	}
	if data, ok := r.quoted(); ok {
		return data
	}
	d.value.Reset(r.rest())
	data := d.value.StringOrNull()
	r.skip(&d.value)
	return data
}

// usualHeaders reads the headers of a message.
func (d *Decoder) usualHeaders(r *reader, t *texts) {
	if d.value.Copied(t.data) { // into the buffer that the headers need
		d.copies.data = append(d.copies.data[:0], t.data...)
		t.data = d.copies.data
	}
	d.value.Reset(r.rest())
	d.readHeaders(&d.value)
	r.skip(&d.value)
}

// reader reads text that is written as expected. After something else failed is set, and the other results mean nothing.
type reader struct {
	text   []byte
	at     int
	failed bool
}

func (r *reader) rest() []byte { return r.text[r.at:] }

// word moves past w if it is next, and reports whether it is.
func (r *reader) word(w string) bool {
	end := r.at + len(w)
	if end > len(r.text) || string(r.text[r.at:end]) != w {
		return false
	}
	r.at = end
	return true
}

// plain reads a string of plain ASCII.
func (r *reader) plain() []byte {
	value, ok := r.quoted()
	r.failed = r.failed || !ok
	return value
}

// quoted reads a string of plain ASCII if one is next.
func (r *reader) quoted() (value []byte, ok bool) {
	if r.at == len(r.text) || r.text[r.at] != '"' {
		return nil, false
	}
	start := r.at + 1
	end := jscan.PlainEnd(r.text, start)
	if end == len(r.text) || r.text[end] != '"' {
		return nil, false
	}
	r.at = end + 1
	return r.text[start:end:end], true
}

// sized reads a string of size bytes in which nothing is escaped. It does not search the string, but trusts who wrote its size.
func (r *reader) sized(size int64) (value []byte, ok bool) {
	start := r.at + 1
	if size < 0 || size >= int64(len(r.text)-start) || r.text[r.at] != '"' || r.text[start+int(size)] != '"' {
		return nil, false
	}
	end := start + int(size)
	r.at = end + 1
	return r.text[start:end:end], true
}

// digits reads an integer of at most 18 digits.
func (r *reader) digits() (value int64) {
	first := r.at
	for r.at < len(r.text) && r.text[r.at]-'0' <= 9 {
		value = 10*value + int64(r.text[r.at]-'0')
		r.at++
	}
	n := r.at - first
	r.failed = r.failed || n == 0 || n > 18 || n > 1 && r.text[first] == '0'
	return value
}

// skip moves past the value that s, which began here, has read.
func (r *reader) skip(s *jscan.Scanner) {
	r.failed = r.failed || s.Err() != nil
	r.at += len(s.Since(0))
}
