package cluster

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strconv"
)

// Of is the shard of a Thing, given by its token.
func Of(token string, shards int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(token))
	return int(h.Sum32() % uint32(shards))
}

// plan says for each shard which member should own it. owners are those that there are, empty: none. Each member gets as
// many as every other, give or take one; and of what a member has it keeps as many as it may. So a shard moves only
// when members come or go. The rest goes where score is highest.
func plan(owners, members []string) []string {
	out := make([]string, len(owners))
	if len(members) == 0 {
		return out
	}
	room := quotas(owners, members)
	mine := map[string][]int{}
	for p, o := range owners {
		mine[o] = append(mine[o], p)
	}
	for _, m := range members {
		ps := mine[m]
		slices.SortFunc(ps, func(a, b int) int { return cmp.Compare(score(b, m), score(a, m)) })
		for _, p := range ps[:min(len(ps), room[m])] {
			out[p] = m
			room[m]--
		}
	}
	for p := range out {
		if out[p] != "" {
			continue
		}
		for _, m := range members {
			if room[m] > 0 && (out[p] == "" || score(p, m) > score(p, out[p])) {
				out[p] = m
			}
		}
		room[out[p]]--
	}
	return out
}

// quotas are how many shards each member gets. Those with the most have first choice of what can't be shared evenly.
func quotas(owners, members []string) map[string]int {
	has := map[string]int{}
	for _, o := range owners {
		has[o]++
	}
	order := slices.Clone(members)
	slices.SortFunc(order, func(a, b string) int {
		return cmp.Or(cmp.Compare(has[b], has[a]), cmp.Compare(score(-1, b), score(-1, a)), cmp.Compare(a, b))
	})
	out := map[string]int{}
	for i, m := range order {
		out[m] = len(owners) / len(members)
		if i < len(owners)%len(members) {
			out[m]++
		}
	}
	return out
}

// score is that of rendezvous hashing: the highest of a shard is as likely any member's.
func score(p int, member string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(strconv.Itoa(p) + "/" + member))
	x := h.Sum64() // the end of splitmix64 mixes what fnv leaves similar
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
