package mapping

import (
	"unsafe"

	"github.com/tidwall/gjson"
)

// members are the members of an object, in order; none if the value is no object.
type members struct {
	all   []member
	next  int            // guess of the next one asked for: two documents mostly have the same members in the same order
	index map[string]int // only when there are many and they are asked for in another order
}

type member struct {
	name, key string // key is as it was written
	value     gjson.Result
	found     bool
}

// fewMembers are searched one by one.
const fewMembers = 8

func membersOf(v gjson.Result) (m members) { return membersIn(nil, v) }

// membersIn is membersOf with room for some of them.
func membersIn(room []member, v gjson.Result) (m members) {
	each(v, func(k, v gjson.Result) {
		if room == nil {
			room = make([]member, 0, fewMembers/2)
		}
		room = append(room, member{name: k.Str, key: k.Raw, value: v})
	})
	m.all = room
	return m
}

// parse reads a document where it lies: the results hold until somebody writes into it.
func parse(doc []byte) gjson.Result {
	return gjson.Parse(unsafe.String(unsafe.SliceData(doc), len(doc)))
}

// find looks for a member by its name.
func (m *members) find(name string) (v gjson.Result, ok bool) {
	at := m.at(name)
	if at < 0 {
		return gjson.Result{}, false
	}
	m.next = at + 1
	m.all[at].found = true
	return m.all[at].value, true
}

func (m *members) at(name string) int {
	if m.next < len(m.all) && m.all[m.next].name == name {
		return m.next
	}
	if len(m.all) <= fewMembers {
		for i := range m.all {
			if m.all[i].name == name {
				return i
			}
		}
		return -1
	}
	if m.index == nil {
		m.index = make(map[string]int, len(m.all))
		for i := range m.all {
			m.index[m.all[i].name] = i
		}
	}
	if i, ok := m.index[name]; ok {
		return i
	}
	return -1
}

func each(v gjson.Result, f func(k, v gjson.Result)) {
	if v.IsObject() {
		v.ForEach(func(k, v gjson.Result) bool { f(k, v); return true })
	}
}
