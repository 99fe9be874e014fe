package server

import (
	"net/http"
	"strings"
)

// Rights are what a token may do.
type Rights uint8

// The rights. Each token may also read a stream and a consumer by name, which clients do before they send or receive.
const (
	CanRead    Rights = 1 << iota // list streams, consumers and messages, get messages, and peek
	CanSend                       // send messages
	CanConsume                    // receive, ack, nack and peek
	CanAdmin                      // create, change and delete streams and consumers, and purge messages
)

// AllRights is what Config.Token may do.
const AllRights = CanRead | CanSend | CanConsume | CanAdmin

// rightNames are the names of the rights, in the order of the bits.
var rightNames = []string{"read", "send", "consume", "admin"}

// String returns the names of the rights with commas between them, or "none".
func (r Rights) String() string {
	var names []string
	for i, name := range rightNames {
		if r&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ",")
}

// ParseRights reads what String returns. ok is false for an unknown name, and for none.
func ParseRights(text string) (r Rights, ok bool) {
	for name := range strings.SplitSeq(text, ",") {
		found := false
		for i, known := range rightNames {
			if name == known {
				r, found = r|1<<i, true
			}
		}
		if !found {
			return 0, false
		}
	}
	return r, true
}

// needs returns the answer to a request whose token has none of some rights, or nil.
func (c *call) needs(one Rights) error {
	if c.rights&one != 0 {
		return nil
	}
	return forbidden("Forbidden: this token has the rights " + c.rights.String() + ", and the request needs " +
		strings.ReplaceAll(one.String(), ",", " or "))
}

// mayStillReceive returns the answer to a receive that has waited, if its token was taken away meanwhile or lost the right, or nil.
func (c *call) mayStillReceive() error {
	c.rights = c.srv.rightsOf(c.r)
	if c.rights == 0 {
		return errUnauthorized
	}
	return c.needs(CanConsume)
}

// rightsOf returns the rights of the request's token; 0 for one that is not known, or none.
func (s *Server) rightsOf(r *http.Request) Rights {
	if s.access == nil {
		if s.authorized(r) {
			return AllRights
		}
		return 0
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return 0
	}
	return s.access(token)
}
