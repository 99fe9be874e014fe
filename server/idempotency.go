package server

import (
	"strings"

	"github.com/sequin-go/sequin/server/internal/store"
)

// maxIdempotencyKey limits the memory that keys take. A UUID has 36 characters.
const maxIdempotencyKey = 255

// once reads the headers that tell whether a send is a repeat of an earlier one or a part of it.
func (c *call) once(body []byte) (store.Once, error) {
	o := store.Once{Body: body}
	if !c.srv.dialect.idempotencyKeys {
		return o, nil
	}
	o.Key = c.r.Header.Get("Idempotency-Key")
	if len(o.Key) > maxIdempotencyKey {
		return o, badRequest("Invalid Idempotency-Key: it can have at most %d characters", maxIdempotencyKey)
	}
	if !c.srv.parts {
		return o, nil
	}
	for _, list := range c.r.Header["Sequin-Part-Of"] {
		for key := range strings.SplitSeq(list, ",") {
			key = strings.Trim(key, " \t")
			if !isKeyOfPart(key) {
				return o, errPartOf
			}
			o.PartOf = append(o.PartOf, key)
		}
	}
	return o, nil
}

// isKeyOfPart reports whether key can stand in a Sequin-Part-Of header: 1 to 255 printable ASCII characters without a
// space. A space means that the comma between two keys is missing.
func isKeyOfPart(key string) bool {
	if key == "" || len(key) > maxIdempotencyKey {
		return false
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return false
		}
	}
	return true
}
