// For tsc --checkJs only: the types are those of the package "preact/hooks".
export * from 'preact/hooks';
