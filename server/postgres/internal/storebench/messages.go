package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/sequin-go/sequin/server/internal/store"
)

// Messages are orders as JSON. What they have in common lets them be compressed as those of a real stream.

// documents returns some documents of a size.
var documents = func() func(size int) []string {
	var mu sync.Mutex // guards made
	made := map[int][]string{}
	return func(size int) []string {
		mu.Lock()
		defer mu.Unlock()
		if made[size] == nil {
			made[size] = makeDocuments(size)
		}
		return made[size]
	}
}()

// countDocuments has no divisor in common with batchSize, so that a key gets another document when it is sent again.
const countDocuments = 997

func makeDocuments(size int) []string {
	random := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("lamp chair table brass walnut oak linen shade small large left right pair single boxed returned express standard gift note")
	all := make([]string, countDocuments)
	for i := range all {
		var b strings.Builder
		fmt.Fprintf(&b, `{"id":%d,"state":"placed","cents":%d`, 1_000_000+i, random.IntN(100_000))
		for b.Len() < size-30 {
			fmt.Fprintf(&b, `,"%s":"%s-%d"`, words[random.IntN(len(words))], words[random.IntN(len(words))], random.IntN(1_000_000))
		}
		text := b.String() + `,"note":"` + strings.Repeat("x", max(size-b.Len()-11, 0)) + `"}`
		all[i] = text
	}
	return all
}

// fresh returns n messages with keys of their own, from a number on.
func fresh(c cell, from, n int) []store.Message {
	data := documents(c.size)
	all := make([]store.Message, n)
	for i := range all {
		all[i] = store.Message{Key: key(from + i), Data: data[(from+i)%countDocuments]}
	}
	return all
}

func key(i int) string { return fmt.Sprintf("orders.%09d", i) }

// changedOf1000 is how many messages of a batch of an upsert change a key that is there.
const changedOf1000 = 300

// changed returns the messages of an upsert. The keys that they change are spread over all, and occur once.
func changed(c cell) []store.Message {
	all := fresh(c, c.keys, c.messages)
	data := documents(c.size)
	step := max(c.keys/max(c.messages*changedOf1000/1000, 1), 1)
	k := 0
	for i := range all {
		if i%1000 < changedOf1000 && k < c.keys {
			all[i].Key, all[i].Data = key(k), data[(k+1)%countDocuments]
			k += step
		}
	}
	random := rand.New(rand.NewPCG(3, 4))
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}
