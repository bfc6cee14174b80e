package storedir

import "testing"

func TestSpace(t *testing.T) {
	t.Parallel()
	free, total, kept, err := Space(t.TempDir())
	if err != nil || free == 0 || total < free || kept < leastReserve || kept > maxReserve {
		t.Errorf("%d of %d, %d kept, %v", free, total, kept, err)
	}
	if _, _, kept, err := Space("/does/not/exist"); err == nil || kept != leastReserve {
		t.Errorf("%d, %v", kept, err)
	}
}
