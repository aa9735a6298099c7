// For tsc --checkJs only: the types are those of the package "htm/preact".
export * from 'htm/preact';
