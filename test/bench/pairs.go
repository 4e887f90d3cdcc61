package main

import "slices"

// pairs measures what each size costs more than the first one, where that may be little. A proxy is one process with a listener for
// each size: two processes that do the same differ by several percent, by where their memory happens to lie. A turn of a size
// stands beside one of the first, with the same requests, so that what is subtracted is as old as a quarter of a second and not as
// a round; who of the two begins changes with the rounds. Proxies have a processor of their own if there is one to spare.
func (b *bench) pairs(c *contest) {
	w := c.workload
	var firsts []*contestant
	for _, name := range w.peers {
		first := c.get(name, 0)
		if first == nil {
			continue
		}
		first.server = first.start()
		firsts = append(firsts, first)
		for _, x := range c.list {
			if x.name == name {
				x.server, x.ports = first.server, first.ports
				x.warm(b, w, 0)
			}
		}
	}
	defer b.apart(c, firsts)()
	rounds := b.rounds(w.rounds, 2)
	for round := 0; round < rounds; round++ {
		for _, first := range firsts {
			for i := 1; i < len(w.sizes); i++ {
				x := c.get(first.name, i)
				plain := *x
				plain.bare = true
				turns := []*contestant{&plain, x}
				if round%2 == 1 {
					slices.Reverse(turns)
				}
				for _, turn := range turns {
					s := w.load.run(b, w, turn, b.seconds(w))
					if turn == x {
						x.got[cpu], x.got[rate] = append(x.got[cpu], s[cpu]), append(x.got[rate], s[rate])
						continue
					}
					x.got[without] = append(x.got[without], s[cpu])
					if i == 1 { // for the table
						first.got[cpu], first.got[rate] = append(first.got[cpu], s[cpu]), append(first.got[rate], s[rate])
					}
				}
				b.Logf("  %d/%d %-12s %-12s %s us, without %s", round+1, rounds, x.name, w.sizeName(i), number(x.got[cpu][round]), number(x.got[without][round]))
			}
		}
		rounds = b.more(c, round, rounds)
	}
}
