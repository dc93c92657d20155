package main

import (
	"math/rand/v2"
	"slices"
	"sync"
)

const hotOrders = 40 // that updates choose from: few enough to meet on one lock now and then

// book is what the clients know: which requests were acknowledged, and the orders that they made.
type book struct {
	mu     sync.Mutex
	acked  map[string]int64 // request id to order
	quiet  []int64          // orders that are never updated
	orders []int64
}

func newBook() *book { return &book{acked: map[string]int64{}} }

// acknowledge notes a request that was answered with success.
func (b *book) acknowledge(request string, order int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.acked[request] = order
}

// add notes an order. The first ones are set aside: nobody updates them, so that drift planted there stays.
func (b *book) add(order int64) {
	b.mu.Lock()
	defer b.mu.Unlock()

	if len(b.quiet) < quietOrders {
		b.quiet = append(b.quiet, order)
		return
	}
	b.orders = append(b.orders, order)
}

// hot gives one of the newest orders.
func (b *book) hot(r *rand.Rand) (int64, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.orders)
	if n == 0 {
		return 0, false
	}
	return b.orders[n-1-r.IntN(min(n, hotOrders))], true
}

func (b *book) any(r *rand.Rand) (int64, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.orders) == 0 {
		return 0, false
	}
	return b.orders[r.IntN(len(b.orders))], true
}

func (b *book) quietOnes() []int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.quiet)
}
