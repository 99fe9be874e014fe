package postgres

import (
	"encoding/binary"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin/server/internal/backlog"
	"github.com/sequin-go/sequin/server/internal/store"
)

// An ack id is a UUID of version 4 whose other 122 bits say what it belongs to, so that a delivery is found without an index:
//
//	seq    48  of the message
//	nonce  54  of the receive, random, so that no two deliveries share an id, even when the database lost one
//	salt   20  of the consumer, so that the id of another consumer is refused

const (
	nonceBits = 54
	lowNonce  = 42 // the bits of the nonce in the lower half
	saltBits  = 20
)

func saltOf(consumer uuid.UUID) uint32 {
	return binary.LittleEndian.Uint32(consumer[:]) & (1<<saltBits - 1)
}

// leaseOf is the lease of the receive with a nonce.
func leaseOf(nonce uint64) backlog.Lease { return backlog.Lease{Opening: nonce, Receive: 1} }

func ackID(salt uint32, d backlog.Delivery) (id store.ID) {
	nonce := d.Lease.Opening
	binary.BigEndian.PutUint64(id[:8], uint64(d.Seq)<<16|4<<12|nonce>>lowNonce)
	binary.BigEndian.PutUint64(id[8:], uint64(2)<<62|nonce&(1<<lowNonce-1)<<saltBits|uint64(salt))
	return id
}

// deliveryOf returns what an ack id belongs to; ok is false for an id of another consumer.
func deliveryOf(salt uint32, id store.ID) (d backlog.Delivery, ok bool) {
	high, low := binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
	nonce := high&0xfff<<lowNonce | low>>saltBits&(1<<lowNonce-1)
	return backlog.Delivery{Seq: int64(high >> 16), Lease: leaseOf(nonce)}, uint32(low)&(1<<saltBits-1) == salt
}
