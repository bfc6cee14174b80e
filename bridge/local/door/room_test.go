package door

import (
	"testing"
	"time"
)

func TestRoomFor(t *testing.T) {
	for _, files := range []uint64{0, 1, 200, 256, 1024, 4096, 65536, 1 << 40, 1<<64 - 1} {
		l := roomFor(files)
		if l.Strangers < 8 || l.Operators < 4 || l.Users < 8 || l.All() > MaxConns {
			t.Errorf("%d files: %+v", files, l)
		}
		// The whole backlog has its turn in a second, and who answers at once has time to.
		if turn := l.stay() * backlog / time.Duration(l.Strangers); l.stay() < leastStay || files >= 1024 && turn > backlogTurn {
			t.Errorf("%d files: a stranger stays %v, and the backlog has its turn in %v", files, l.stay(), turn)
		}
		if files >= 1024 && uint64(l.All())+ownFiles > files/2+ownFiles {
			t.Errorf("%d files: %+v leaves the store less than half", files, l)
		}
	}
}
