"""The same server over several machines: Ray starts and finds the processes, the doctor says which machines are fit."""
