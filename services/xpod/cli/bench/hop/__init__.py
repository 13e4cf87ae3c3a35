"""One layer's hop, from attention to the expert shards and back, taken apart."""
